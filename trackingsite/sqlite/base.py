"""SQLite for several processes that write: Django's backend with our pragmas and fair writers.

SQLite has no queue for writers: its busy handler polls, and the longer one has waited the more seldom. Beside an ingester that
writes in a loop nearly every other write failed with "database is locked". So whoever writes holds a shared `flock` while it waits
for the write lock and while it has it, and whoever writes in bulk calls `give_way()` between batches: no error then, and a p95 of
101 ms for API writes beside an ingester that is busy 61 % of the time. And all look for the write lock equally often, see
`patiently`. No caller sees any of it.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base

from tracking import private
from trackingsite.sqlite import locks

WRITES = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER|DROP)\b", re.IGNORECASE)

#: Between two looks for the write lock, in seconds: twice as long each time, up to the second number.
LOOKS = (0.0005, 0.002)

#: FULL: a webhook is answered when its events would survive the power. (Hits are safe in the spool before they come here.)
#: No mmap: it made nothing faster, and an export of a large file looked as big as the file.
PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA journal_size_limit = 67108864",
)

#: Pages in memory in KB, of each connection of each thread, and after how many pages the log is copied into the file.
USUAL = ("PRAGMA cache_size = -8000", "PRAGMA wal_autocheckpoint = 64000")
#: The same of who writes in bulk: with SQLite's 4 MB before a copy, pages that change often are copied many times, which took a
#: third of ingestion's time. It comes before the others, so that no request has to copy.
BULK = ("PRAGMA cache_size = -64000", "PRAGMA wal_autocheckpoint = 32000")


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's SQLite backend. Every `atomic()` takes the write lock at once (IMMEDIATE), so none fails half-way for it."""

    _writers: int | None = None
    _in_bulk = False
    #: Close what is open of the lock files; the end of a thread does too, with its connection.
    _locks: tuple[weakref.finalize[Any, Any], ...] = ()
    _sizes = USUAL
    _patience = 0.0  # seconds, as SQLite has them too
    #: SQLite changes it with each commit of another connection.
    _data_version = 0

    def get_connection_params(self) -> dict[str, Any]:
        options = self.settings_dict["OPTIONS"]
        options.setdefault("transaction_mode", "IMMEDIATE")
        options.setdefault("timeout", 10)  # seconds; who reports to us gives up after about as long
        return super().get_connection_params()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if not self.is_in_memory_db():
            self._close_locks()
            try:
                user = locks.register_user(self.settings_dict["NAME"])
                if user is not None:
                    self._close_at_end(user)
                self._writers = locks.open_lock(self.settings_dict["NAME"], "writers")
                self._close_at_end(self._writers)
                private.make_private_file(Path(self.settings_dict["NAME"]))
            except OSError as error:
                raise self.Database.OperationalError(f"unable to open {error.filename}: {error.strerror}") from error
        connection = super().get_new_connection(conn_params)
        for pragma in (*PRAGMAS, *self._sizes):
            connection.execute(pragma)
        self._patience = conn_params["timeout"]
        return connection

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = self.connection.cursor(factory=FairCursor)
        cursor.database = self
        return cursor

    # -- making and migrating it

    def preparing(self) -> AbstractContextManager[None]:
        """One process at a time makes or migrates the database."""
        return locks.preparing(self.settings_dict["NAME"])

    def sole_user(self, seconds: float = 2.0) -> AbstractContextManager[bool]:
        """Whether no other process uses the database; this one must have closed its connections before. Others wait outside."""
        return locks.sole_user(self.settings_dict["NAME"], seconds)

    # -- fair writers

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the shared lock for one statement that writes outside a transaction."""
        self._hold_writers()
        try:
            yield
        finally:
            self._release_writers()

    def write_in_bulk(self) -> None:
        """This connection is one that does little else."""
        self.close()
        self._sizes = BULK

    def give_way(self, seconds: float = 0.25) -> bool:
        """Let those who wait to write go first; for loops that write in bulk, between batches, with no transaction open.

        Whether anybody else wrote or waited to since this connection last asked.
        """
        self.ensure_connection()
        waited = self._writers is not None and locks.wait_for_writers(self._writers, seconds)
        before = self._data_version
        with self.wrap_database_errors:  # unlike other pragmas of ours it reads the file, which may be locked
            self._data_version = self.connection.execute("PRAGMA data_version").fetchone()[0]
        return waited or before != self._data_version

    @contextmanager
    def bulk(self, patience: float, *, synced: bool = True) -> Iterator[None]:
        """For who writes in bulk: the block's transactions do not count as waiting writers, and wait `patience` seconds at most.

        Without `synced` the power may take their commits back, never a part of one, nor those of others.
        """
        self.ensure_connection()
        before, self._in_bulk = self._in_bulk, True
        try:
            with self.busy_timeout(patience), nullcontext() if synced else self._unsynced():
                yield
        finally:
            self._in_bulk = before

    @contextmanager
    def _unsynced(self) -> Iterator[None]:
        if self.in_atomic_block:  # SQLite refuses to change it then
            yield
            return
        self.connection.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            if self.connection is not None:
                self.connection.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def busy_timeout(self, seconds: float) -> Iterator[None]:
        """Wait for locks this long at most, instead of as long as the settings say."""
        self.ensure_connection()
        before, self._patience = self._patience, max(0.0, seconds)
        self._tell_sqlite(self._patience)
        try:
            yield
        finally:
            self._patience = before
            if self.connection is not None:
                self._tell_sqlite(before)

    def patiently(self, statement: Callable[[], Any]) -> Any:
        """What a statement returns that takes the write lock and leaves nothing behind when it does not get it.

        SQLite looks for a lock the more seldom the longer it waits, at last ten times a second, so who has waited longest gets it
        last. Beside one script that writes in a loop a write took 1.8 s at worst, with three of them on a busy machine 7.4; looked
        for like this, 0.05 and 0.36 s, for a fifth fewer writes in all.
        """
        began, pause = time.monotonic(), LOOKS[0]
        self._tell_sqlite(0)
        try:
            while True:
                try:
                    return statement()
                except self.Database.OperationalError as error:
                    if not _is_taken(error.sqlite_errorcode) or time.monotonic() - began >= self._patience:
                        raise
                time.sleep(pause)
                pause = min(2 * pause, LOOKS[1])
        finally:
            self._tell_sqlite(self._patience)

    def _tell_sqlite(self, patience: float) -> None:
        self.connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")

    def _start_transaction_under_autocommit(self) -> None:
        self._hold_writers()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._release_writers()
            raise

    def _commit(self) -> Any:
        try:
            return super()._commit()  # type: ignore[misc]
        finally:
            self._release_writers()

    def _rollback(self) -> Any:
        try:
            return super()._rollback()  # type: ignore[misc]
        finally:
            self._release_writers()

    def _hold_writers(self) -> None:
        if self._writers is not None and not self._in_bulk:
            fcntl.flock(self._writers, fcntl.LOCK_SH)

    def _release_writers(self) -> None:
        if self._writers is not None and not self._in_bulk:
            fcntl.flock(self._writers, fcntl.LOCK_UN)

    def _close(self) -> None:
        super()._close()  # type: ignore[misc]
        self._close_locks()

    def _close_locks(self) -> None:
        for close in self._locks:
            close()
        self._locks, self._writers = (), None

    def _close_at_end(self, descriptor: int) -> None:
        self._locks += (weakref.finalize(self, os.close, descriptor),)


def _is_taken(code: int) -> bool:
    """Whether an extended error code says that a lock is another's, for now: all of SQLITE_BUSY but an old snapshot, which stays old."""
    return code & 0xFF == sqlite3.SQLITE_BUSY and code != sqlite3.SQLITE_BUSY_SNAPSHOT


class FairCursor(base.SQLiteCursorWrapper):
    database: DatabaseWrapper

    def execute(self, query: str, params: Any = None) -> Any:
        if self.database.in_atomic_block:
            return super().execute(query, params)
        execute = partial(super().execute, query, params)
        if query.startswith("BEGIN"):  # `_start_transaction_under_autocommit` holds the shared lock, for longer than this
            return self.database.patiently(execute)
        if not WRITES.match(query):
            return execute()
        with self.database.writing():
            return self.database.patiently(execute)

    def executemany(self, query: str, param_list: Any) -> Any:
        if self.database.in_atomic_block or not WRITES.match(query):
            return super().executemany(query, param_list)
        with self.database.writing():  # not `patiently`: each row is committed by itself
            return super().executemany(query, param_list)
