"""What `apply()` and `lifecycle` say to SQLite. The write lock is held already (transactions are IMMEDIATE), so nothing here locks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from campaigns.sql.common import EVENT_COLUMNS, LIVING, LOCKED


def lock_messages(cursor: Any, tokens: Iterable[str], ids: Iterable[int]) -> list[tuple[Any, ...]]:
    """Rows of LOCKED for the messages of living campaigns that have these tokens or ids."""
    rows: list[tuple[Any, ...]] = []
    for column, values in (("tracking_token", list(tokens)), ("id", list(ids))):
        if values:
            cursor.execute(f"SELECT {LOCKED} {LIVING} WHERE m.{column} IN (SELECT value FROM json_each(%s))", [json.dumps(values)])
            rows += cursor.fetchall()
    return rows


def write_states(cursor: Any, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """rows: (*columns, message id)."""
    cursor.executemany(f"UPDATE messages SET {', '.join(f'{column} = %s' for column in columns)} WHERE id = %s", rows)


def insert_events(cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
    """rows: EVENT_COLUMNS, `detail` as JSON text."""
    cursor.executemany(f"INSERT INTO events ({', '.join(EVENT_COLUMNS)}) VALUES ({', '.join(['%s'] * len(EVENT_COLUMNS))})", rows)


def insert_messages(cursor: Any, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """Insert messages under ids in a row; returns the first. (The table's ids are AUTOINCREMENT: none comes again.)"""
    cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'")
    first: int = (cursor.fetchone() or (0,))[0] + 1
    marks = ", ".join(["%s"] * (len(columns) + 1))
    cursor.executemany(
        f"INSERT INTO messages (id, {', '.join(columns)}) VALUES ({marks})", [(first + number, *row) for number, row in enumerate(rows)]
    )
    return first
