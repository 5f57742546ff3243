"""Several processes that write to one SQLite file: no "database is locked", and nobody waits long."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trackingsite.sqlite import base, locks

ENVIRONMENT = """
import os, sys, time
os.environ["TRACKING_DB_PATH"] = sys.argv[1]
os.environ.pop("TRACKING_DATABASE_URL", None)
os.environ["TRACKING_DATABASE_URL"] = ""
import django
django.setup()
from django.db import connection, transaction
"""
INGESTER = (
    ENVIRONMENT
    + """
from campaigns.sql.common import give_way
until, batches = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < until:
    give_way()
    with connection.bulk(20), transaction.atomic(), connection.cursor() as cursor:
        began = time.monotonic()
        while time.monotonic() - began < 0.05:
            cursor.execute("INSERT INTO bulk VALUES (1)")
    batches += 1
print(batches)
"""
)
WRITER = (
    ENVIRONMENT
    + """
until, waits = time.monotonic() + float(sys.argv[2]), []
while time.monotonic() < until:
    began = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO single VALUES (1)")
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO single VALUES (1)")
    waits.append(time.monotonic() - began)
    time.sleep(0.01)
print(len(waits), max(waits))
"""
)


@pytest.mark.slow
def test_writers_beside_one_that_writes_in_bulk_are_never_refused_and_wait_a_bounded_time(tmp_path: Path) -> None:
    path = str(tmp_path / "tracking.db")
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE bulk (n)")
        database.execute("CREATE TABLE single (n)")
    crew = [
        subprocess.Popen([sys.executable, "-c", program, path, "4"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for program in (INGESTER, WRITER, WRITER, WRITER)
    ]
    said = [process.communicate(timeout=60) for process in crew]
    assert [error for _, error in said if error] == []
    batches, writes = int(said[0][0]), [int(out.split()[0]) for out, _ in said[1:]]
    assert batches > 5, "those who write singly do not starve the one that writes in bulk"
    assert min(writes) > 5
    assert max(float(out.split()[1]) for out, _ in said[1:]) < 5, "SQLite's own patience is 20 s; nobody comes near it"
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM single").fetchone()[0] == 2 * sum(writes)


def _hold(path: str, name: str, ready: Any, done: Any) -> None:
    import fcntl

    descriptor = locks.open_lock(path, name)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    ready.set()
    done.wait(30)


@pytest.fixture
def elsewhere(tmp_path: Path):
    """Start another process that holds a lock; call the result to end it."""
    context = multiprocessing.get_context("spawn")
    started = []

    def hold(name: str) -> Any:
        ready, done = context.Event(), context.Event()
        process = context.Process(target=_hold, args=(str(tmp_path / "x.db"), name, ready, done))
        process.start()
        started.append((process, done))
        assert ready.wait(30)
        return done

    yield hold
    for process, done in started:
        done.set()
        process.join(30)


def test_who_writes_in_bulk_waits_for_waiting_writers_but_not_for_ever(tmp_path: Path, elsewhere) -> None:
    elsewhere("writers")
    descriptor = locks.open_lock(tmp_path / "x.db", "writers")
    began = time.monotonic()
    assert locks.wait_for_writers(descriptor, 0.2)
    assert time.monotonic() - began >= 0.2


@pytest.mark.django_db(transaction=True)
def test_who_gives_way_is_told_of_what_others_wrote(campaign: Any) -> None:
    from django.db import connection

    if connection.vendor != "sqlite":
        pytest.skip("of SQLite alone")
    connection.give_way()
    campaign.save(update_fields=["name"])
    assert not connection.give_way(), "its own"
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as other, other:
        other.execute("UPDATE campaigns SET name = 'another'")
    assert connection.give_way()
    assert not connection.give_way()


@pytest.mark.django_db(transaction=True)
def test_who_gives_way_hears_of_a_locked_database_as_of_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError, connections

    class Locked:
        def execute(self, statement: str) -> None:
            raise sqlite3.OperationalError("database is locked")

    connection = connections["default"]  # itself: what is set on the proxy cannot be set back
    if connection.vendor != "sqlite":
        pytest.skip("of SQLite alone")
    connection.ensure_connection()
    with monkeypatch.context() as patched:
        patched.setattr(connection, "connection", Locked())
        with pytest.raises(OperationalError, match="locked"):
            connection.give_way()


def test_sole_user_knows_of_users_in_other_processes(tmp_path: Path, elsewhere) -> None:
    with locks.sole_user(tmp_path / "x.db", 0.05) as alone:
        assert alone
        assert locks.register_user(tmp_path / "x.db") is None, "its own connections do not wait for it"
    elsewhere("users")
    with locks.sole_user(tmp_path / "x.db", 0.05) as alone:
        assert not alone


@pytest.mark.django_db(transaction=True)
def test_pragmas_and_transactions_are_ours() -> None:
    from django.db import connection, transaction
    from django.test.utils import CaptureQueriesContext

    if connection.vendor != "sqlite":
        pytest.skip("of SQLite alone")
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert cursor.execute("PRAGMA synchronous").fetchone()[0] == 2
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        pass
    assert captured[0]["sql"] == "BEGIN IMMEDIATE"


@pytest.mark.django_db(transaction=True)
def test_the_shared_lock_is_free_after_commit_rollback_and_failure() -> None:
    import fcntl

    from django.db import DatabaseError, connection, transaction

    if connection.vendor != "sqlite":
        pytest.skip("of SQLite alone")

    def is_free() -> bool:
        descriptor = locks.open_lock(connection.settings_dict["NAME"], "writers")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            import os

            os.close(descriptor)
        return True

    with transaction.atomic():
        assert not is_free()
    assert is_free()
    with pytest.raises(RuntimeError), transaction.atomic():
        raise RuntimeError
    assert is_free()
    with pytest.raises(DatabaseError), connection.cursor() as cursor:
        cursor.execute("INSERT INTO no_such_table VALUES (1)")
    assert is_free()


class Patient:
    """A connection of ours whose statement finds the lock taken, and a clock that only its pauses move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: int = sqlite3.SQLITE_BUSY) -> None:
        self.now, self.pauses, self.told, self.error = 100.0, [], [], error
        monkeypatch.setattr(base, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))
        self.connection = base.DatabaseWrapper({"NAME": ":memory:", "OPTIONS": {}})
        self.connection.connection = self
        self.connection._patience = 10.0

    def execute(self, statement: str) -> None:
        self.told.append(statement)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def taken_for(self, looks: int) -> Any:
        def statement() -> str:
            if len(self.pauses) < looks:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = self.error
                raise error
            return "done"

        return self.connection.patiently(statement)


def test_who_has_waited_longest_looks_for_the_lock_as_often_as_who_came_last(monkeypatch: pytest.MonkeyPatch) -> None:
    patient = Patient(monkeypatch)
    assert patient.taken_for(1000) == "done"
    assert max(patient.pauses) == base.LOOKS[1]
    assert patient.told == ["PRAGMA busy_timeout = 0", "PRAGMA busy_timeout = 10000"]


def test_who_mends_the_log_after_a_death_is_waited_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Patient(monkeypatch, sqlite3.SQLITE_BUSY_RECOVERY).taken_for(3) == "done"


def test_who_waits_for_the_lock_gives_up_when_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    patient = Patient(monkeypatch)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        patient.taken_for(10**9)
    assert 10 <= patient.now - 100 < 10.01
    assert patient.told[-1] == "PRAGMA busy_timeout = 10000"


def test_what_waiting_does_not_help_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY_SNAPSHOT):
        patient = Patient(monkeypatch, error)
        with pytest.raises(sqlite3.OperationalError):
            patient.taken_for(1)
        assert patient.pauses == []


@pytest.mark.django_db(transaction=True)
def test_a_thread_that_ends_leaves_no_lock_file_open() -> None:
    import gc
    import threading

    from django.db import connection

    from campaigns.models import Campaign

    if connection.vendor != "sqlite":
        pytest.skip("of SQLite alone")

    def ask() -> None:
        thread = threading.Thread(target=Campaign.objects.exists)
        thread.start()
        thread.join()

    def opened() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    ask()
    before = opened()
    for _ in range(20):
        ask()
    assert opened() <= before
