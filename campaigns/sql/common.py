"""SQL of `apply()` that SQLite (3.35 and later) and PostgreSQL both run as it stands.

Every statement that locks rows takes them in the order of their keys, so that two transactions cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import connection, transaction

from campaigns.status import COUNTED, STATE_COLUMNS

#: Of `events`, in the order in which `apply()` makes the rows.
EVENT_COLUMNS = (
    "message_id", "campaign_id", "kind", "occurred_at", "source", "user_agent_id", "judgement_id", "link_id", "ip", "detail",
)  # fmt: skip

LOCKED = f"m.id, m.campaign_id, m.tracking_token, {', '.join('m.' + column for column in STATE_COLUMNS)}"
LIVING = "FROM messages m JOIN campaigns c ON c.id = m.campaign_id AND c.deleted_at IS NULL"

#: Parameters of one statement; SQLite allows 32,766.
_CHUNK = 500


def chunks(rows: Sequence[Any], size: int = _CHUNK) -> Iterator[Sequence[Any]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def give_way() -> bool:
    """Let others write first, where the database has no queue for writers (SQLite, see `trackingsite.sqlite`).

    Whether others wrote since this connection was last asked, or had to be waited for; False where that is no concern.
    """
    wait = getattr(connection, "give_way", None)
    return wait is not None and wait()


@contextmanager
def bulk_transaction() -> Iterator[None]:
    """A transaction of one who writes much, a part at a time: whoever waits to write goes first, and is not kept waiting by two such."""
    give_way()
    bulk = getattr(connection, "bulk", None)
    with bulk(20.0) if bulk is not None else nullcontext(), transaction.atomic():
        yield


def new_external_events(cursor: Any, keys: Iterable[tuple[int, str]], received_at: int) -> set[tuple[int, str]]:
    """Take note of (source, external id); returns those that were not known."""
    fresh: set[tuple[int, str]] = set()
    for some in chunks(sorted(keys)):
        values = ", ".join(["(%s, %s, %s)"] * len(some))
        cursor.execute(
            f"INSERT INTO external_events (source, external_id, received_at) VALUES {values}"
            " ON CONFLICT DO NOTHING RETURNING source, external_id",
            [value for source, external_id in some for value in (source, external_id, received_at)],
        )
        fresh.update((source, external_id) for source, external_id in cursor.fetchall())
    return fresh


def intern_user_agents(cursor: Any, rows: Mapping[bytes, tuple[str | None, str | None, str]]) -> dict[bytes, int]:
    """Ids of (agent, method, headers as JSON) by digest, made where they are missing."""
    digests = sorted(rows)
    cursor.executemany(
        "INSERT INTO user_agents (digest, user_agent, method, headers) VALUES (%s, %s, %s, %s) ON CONFLICT (digest) DO NOTHING",
        [(digest, *rows[digest]) for digest in digests],
    )
    ids: dict[bytes, int] = {}
    for some in chunks(digests):
        cursor.execute(f"SELECT digest, id FROM user_agents WHERE digest IN ({', '.join(['%s'] * len(some))})", list(some))
        ids.update((bytes(digest), pk) for digest, pk in cursor.fetchall())
    return ids


def intern_judgements(cursor: Any, keys: Iterable[tuple[str, str, float, str]]) -> dict[tuple[str, str, float, str], int]:
    """Ids of (verdict, rule, confidence, ruleset), made where they are missing."""
    ids = {}
    for key in sorted(keys):
        cursor.execute("INSERT INTO judgements (verdict, rule, confidence, ruleset) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING", key)
        cursor.execute("SELECT id FROM judgements WHERE verdict = %s AND rule = %s AND confidence = %s AND ruleset = %s", key)
        ids[key] = cursor.fetchone()[0]
    return ids


def count_links(cursor: Any, links: Mapping[tuple[int, bytes], tuple[str, str, int, int]]) -> dict[tuple[int, bytes], int]:
    """Add clicks to links, made where they are missing. (campaign, digest) → (url, position, clicks, of people) in; ids out."""
    keys = sorted(links)
    cursor.executemany(
        "INSERT INTO links (campaign_id, digest, url, position, click_count, human_click_count) VALUES (%s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (campaign_id, digest) DO UPDATE SET click_count = links.click_count + excluded.click_count,"
        " human_click_count = links.human_click_count + excluded.human_click_count",
        [(*key, *links[key]) for key in keys],
    )
    ids: dict[tuple[int, bytes], int] = {}
    for campaign_id, group in groupby(keys, key=itemgetter(0)):
        for some in chunks([digest for _, digest in group]):
            cursor.execute(
                f"SELECT digest, id FROM links WHERE campaign_id = %s AND digest IN ({', '.join(['%s'] * len(some))})", [campaign_id, *some]
            )
            ids.update(((campaign_id, bytes(digest)), pk) for digest, pk in cursor.fetchall())
    return ids


def add_counters(cursor: Any, deltas: Mapping[int, Sequence[int]]) -> None:
    """Change campaigns' counters by COUNTED."""
    cursor.executemany(
        f"UPDATE campaign_counters SET {', '.join(f'{name} = {name} + %s' for name in COUNTED)} WHERE campaign_id = %s",
        [(*deltas[campaign_id], campaign_id) for campaign_id in sorted(deltas)],
    )


def add_reasons(cursor: Any, deltas: Mapping[tuple[int, str], int]) -> None:
    """Change the number of messages that bounced for a reason, by (campaign, reason). No line stays at nothing."""
    more = [(*key, deltas[key]) for key in sorted(deltas) if deltas[key] > 0]
    less = [(-deltas[key], *key) for key in sorted(deltas) if deltas[key] < 0]
    if more:
        cursor.executemany(
            "INSERT INTO campaign_bounce_reasons (campaign_id, reason, n) VALUES (%s, %s, %s)"
            " ON CONFLICT (campaign_id, reason) DO UPDATE SET n = campaign_bounce_reasons.n + excluded.n",
            more,
        )
    if less:
        cursor.executemany("UPDATE campaign_bounce_reasons SET n = n - %s WHERE campaign_id = %s AND reason = %s", less)
        cursor.executemany(
            "DELETE FROM campaign_bounce_reasons WHERE campaign_id = %s AND reason = %s AND n = 0", [key for _, *key in less]
        )


def add_hours(cursor: Any, counts: Mapping[tuple[int, int, int], Sequence[int]]) -> None:
    """Add to the hourly counts: (campaign, hour, kind) → (events, of people)."""
    cursor.executemany(
        "INSERT INTO hourly_counts (campaign_id, hour, kind, n, human_n) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (campaign_id, hour, kind) DO UPDATE SET"
        " n = hourly_counts.n + excluded.n, human_n = hourly_counts.human_n + excluded.human_n",
        [(*key, *counts[key]) for key in sorted(counts)],
    )
