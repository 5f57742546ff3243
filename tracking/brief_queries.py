"""Questions to the database that nobody waits for long: whoever asks has an answer for when it is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError, connection

from campaigns.models import Campaign, Message

#: Away, locked, damaged or without our tables: all the same to who asks.
NO_ANSWER = (DatabaseError, InterfaceError)
#: How long a locked SQLite database is waited for, in seconds. (PostgreSQL has its connect_timeout.)
PATIENCE = 1.0


def is_known(token: str) -> bool:
    """Whether a token is one of a living message's: one query by its unique index, no transaction. Raises one of NO_ANSWER."""
    with brief():
        return Message.objects.living().filter(tracking_token=token).exists()


def database_trouble() -> str:
    """What keeps the database from answering: the error's class, "" when it answers."""
    try:
        with brief():
            connection.ensure_connection()
            Campaign.objects.exists()
    except NO_ANSWER as error:
        return type(error).__name__
    return ""


@contextmanager
def brief() -> Iterator[None]:
    """Wait for locks no longer than PATIENCE."""
    if connection.vendor == "sqlite":
        with connection.busy_timeout(PATIENCE):  # type: ignore[attr-defined]
            yield
    else:
        yield
