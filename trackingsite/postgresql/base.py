"""PostgreSQL as this service knows it: Django's backend, and one word for "not now"."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType

from django.db.backends.postgresql import base
from django.db.utils import DatabaseErrorWrapper, OperationalError
from psycopg import errors


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's PostgreSQL backend."""

    @cached_property
    def wrap_database_errors(self) -> DatabaseErrorWrapper:
        return _Errors(self)


class _Errors(DatabaseErrorWrapper):
    """A database that may only be read (a standby that took over, a disk that is nearly full) is one that is away: nothing is wrong
    with the data, and it will be written later."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, errors.ReadOnlySqlTransaction):
            self.wrapper.errors_occurred = True  # type: ignore[attr-defined]
            raise OperationalError(*error.args).with_traceback(traceback) from error
        super().__exit__(kind, error, traceback)
