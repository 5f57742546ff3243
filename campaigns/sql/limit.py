"""A limit for all that a block asks of PostgreSQL, which has one for each statement and one for each lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError, connection

#: The limit is told anew when less than it is left, by so many seconds.
_EXACT = 0.01


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """The block's statements take this long at most, all together, waiting for locks included. Then they raise OperationalError.

    (A statement behind a transaction that was rolled back may have all of it again.) A block within another has no more than that.
    """
    connection.ensure_connection()
    outer = _innermost()
    within = _Limit(time.monotonic() + seconds if outer is None else min(outer.until, time.monotonic() + seconds))
    within.tell()  # before any transaction of the block: with one that is rolled back goes what was told in it
    try:
        with connection.execute_wrapper(within):
            yield
    finally:
        with suppress(DatabaseError, InterfaceError):  # a lost connection has no limit
            within.end(outer)


def _innermost() -> _Limit | None:
    return next((each for each in reversed(connection.execute_wrappers) if isinstance(each, _Limit)), None)


class _Limit:
    """Around each statement: what is left of the time is its limit."""

    def __init__(self, until: float) -> None:
        self.until = until
        self._connection: Any = None  # whose limit is told
        self._told = 0.0

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if _innermost() is self and not _is_broken():
            if (left := self.until - time.monotonic()) <= 0:
                raise OperationalError("there was no time left for the database's answer")
            if self._connection is not connection.connection or self._told - left > _EXACT:
                self.tell()
        return execute(sql, params, many, context)

    def tell(self) -> None:
        left = self.until - time.monotonic()
        if connection.connection is not None and not _is_broken():
            _say(f"SET statement_timeout = {max(1, int(left * 1000))}")
            self._connection, self._told = connection.connection, left

    def end(self, outer: _Limit | None) -> None:
        if outer is not None:
            outer.tell()
        elif self._connection is connection.connection and connection.connection is not None and not _is_broken():
            _say("RESET statement_timeout")


def _is_broken() -> bool:
    """Whether a transaction has failed: nothing can be said in it but to go back to a savepoint, or to its beginning."""
    return connection.connection is not None and connection.connection.info.transaction_status.name == "INERROR"


def _say(statement: str) -> None:
    with connection.wrap_database_errors:
        connection.connection.execute(statement)
