"""PostgreSQL as this service asks it: Django's backend with a limit for who cannot wait, and one word for "not now"."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from types import TracebackType
from typing import Any

from django.db.backends.postgresql import base
from django.db.utils import DatabaseError, DatabaseErrorWrapper, InterfaceError, OperationalError
from psycopg import errors

#: A limit is told anew when less than it is left, by so many seconds.
_EXACT = 0.01


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's PostgreSQL backend."""

    @cached_property
    def wrap_database_errors(self) -> DatabaseErrorWrapper:
        return _Errors(self)

    @contextmanager
    def busy_timeout(self, seconds: float) -> Iterator[None]:
        """The block's statements take this long at most, all together, waiting for locks included. Then they raise OperationalError."""
        within = _Within(self, seconds)
        try:
            with self.execute_wrapper(within):
                yield
        finally:
            # a transaction that failed takes the limit back by itself, and a lost connection has none
            with suppress(DatabaseError, InterfaceError):
                within.reset()


class _Within:
    """Around each statement: what is left of the time is its limit."""

    def __init__(self, database: DatabaseWrapper, seconds: float) -> None:
        self.database, self.until = database, time.monotonic() + seconds
        self._connection: Any = None  # whose limit is told
        self._told = 0.0

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        left = self.until - time.monotonic()
        if left <= 0:
            raise OperationalError("there was no time left for the database's answer")
        if self._connection is not self.database.connection or self._told - left > _EXACT:
            self._say(f"SET statement_timeout = {max(1, int(left * 1000))}")
            self._connection, self._told = self.database.connection, left
        return execute(sql, params, many, context)

    def reset(self) -> None:
        if self._connection is not None and self._connection is self.database.connection:
            self._say("RESET statement_timeout")

    def _say(self, statement: str) -> None:
        with self.database.wrap_database_errors:
            self.database.connection.execute(statement)


class _Errors(DatabaseErrorWrapper):
    """A database that may only be read (a standby that took over, a disk that is nearly full) is one that is away: nothing is wrong
    with the data, and it will be written later."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, errors.ReadOnlySqlTransaction):
            self.wrapper.errors_occurred = True  # type: ignore[attr-defined]
            raise OperationalError(*error.args).with_traceback(traceback) from error
        super().__exit__(kind, error, traceback)
