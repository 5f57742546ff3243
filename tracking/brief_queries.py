"""Questions to the database that nobody waits for long: whoever asks has an answer for when it is away."""

from __future__ import annotations

from contextlib import AbstractContextManager

from django.db import DatabaseError, InterfaceError, connection

from campaigns.models import Campaign, Message
from campaigns.sql.limit import limited

#: Away, locked, damaged or without our tables: all the same to who asks.
NO_ANSWER = (DatabaseError, InterfaceError)
#: How long an answer is waited for, in seconds, once there is a connection (which has its own limit on PostgreSQL).
PATIENCE = 1.0


def is_known(token: str) -> bool:
    """Whether a token is one of a living message's: one query by its unique index, no transaction. Raises one of NO_ANSWER."""
    with brief():
        return Message.objects.living().filter(tracking_token=token).exists()


def database_trouble() -> str:
    """What keeps the database from answering: the error's class, "" when it answers."""
    try:
        with brief():
            Campaign.objects.exists()
            if connection.vendor == "postgresql" and _is_read_only():
                return "ReadOnlySqlTransaction"
    except NO_ANSWER as error:
        return type(error).__name__
    return ""


def _is_read_only() -> bool:
    """Whether nothing can be written: a standby that took over, a disk that is nearly full."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        return cursor.fetchone()[0] == "on"  # type: ignore[no-any-return]


def brief() -> AbstractContextManager[None]:
    """Wait for answers no longer than PATIENCE."""
    return answered_within(PATIENCE)


def answered_within(seconds: float) -> AbstractContextManager[None]:
    """The block's queries wait for locks so long at most; on PostgreSQL they take so long at most, all together. Then they raise
    OperationalError."""
    if connection.vendor == "sqlite":
        return connection.busy_timeout(seconds)  # type: ignore[attr-defined,no-any-return]
    return limited(seconds)
