"""The database is locked for long: hits are answered at once, and are all there afterwards."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError

from tests.faults.hitting import Hits, check_each_once, make_messages, wait_until_drained
from tests.tracking.running import RunningServer, until
from tracking import prepare

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: How long; `FAULT_SECONDS=30` for the long form.
SECONDS = float(os.environ.get("FAULT_SECONDS", "3"))
#: No hit may take longer, in seconds. Who waited for the database would wait until it is free, or ten seconds; what is seen
#: on a busy machine is a tenth of this.
BOUND = 1.0
TOKENS = [f"token-{number}" for number in range(40)]

#: Takes the locks that SQLite's readers need too: eight bytes of the index of its log.
LOCK_READERS = """
import fcntl, sys
index = open(sys.argv[1] + "-shm", "r+b")
fcntl.lockf(index, fcntl.LOCK_EX, 8, 120)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_for_writers(database: Path) -> Iterator[None]:
    """BEGIN EXCLUSIVE: with a write-ahead log readers go on."""
    locker = sqlite3.connect(database, timeout=30, isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        locker.execute("ROLLBACK")
        locker.close()


@contextmanager
def locked_for_all(database: Path) -> Iterator[None]:
    """In a process of its own: whoever closes a file loses all locks that his process has on it."""
    command = [sys.executable, "-c", LOCK_READERS, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as locker:
        assert locker.stdin
        assert locker.stdout
        assert locker.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            locker.stdin.close()


@pytest.mark.parametrize("locked", [locked_for_writers, locked_for_all])
def test_hits_are_answered_at_once_while_the_database_is_locked_and_are_there_afterwards(tmp_path: Path, locked) -> None:
    with RunningServer(tmp_path, workers=2) as server:
        links = make_messages(server, TOKENS)
        with Hits(server.port, TOKENS, rate=100) as pixels, Hits(server.port, TOKENS, rate=100, links=links) as clicks:
            pixels.go_on()
            with locked(server.database):
                time.sleep(SECONDS / 2)
                os.kill(server.workers()[0], signal.SIGKILL)
                time.sleep(SECONDS / 2)
                until(lambda: len(server.workers()) == 2)
                pixels.go_on()  # by the new one, too
                clicks.go_on()
            pixels.go_on()
        wait_until_drained(server)
        check_each_once(server, pixels, clicks)
        assert pixels.broken + clicks.broken <= 8, "no more than the connections of the worker that was killed"
        print(f"{locked.__name__}: {pixels.count} pixels, {clicks.count} links, slowest {max(pixels.slowest, clicks.slowest):.3f} s")
        assert max(pixels.slowest, clicks.slowest) < BOUND


def test_a_read_says_what_it_could_not_wait_for(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        make_messages(server, TOKENS)
        with locked_for_writers(server.database):
            for _ in range(50):
                assert server.get("/track/pixel/token-1", timeout=2).status == 200
            began = time.monotonic()
            answer = server.get("/api/messages/2")
            assert time.monotonic() - began < 2, "a read's patience is 250 ms"
            assert int(answer.headers["tracking-pending"]) > 0
        until(lambda: "tracking-pending" not in server.get("/api/messages/2").headers, 30)
        assert server.get("/api/messages/2").json()["open_count"] == 50


def test_hits_do_not_wait_behind_requests_that_wait_for_the_database(tmp_path: Path) -> None:
    from tracking.serving.asgi import THREADS

    with RunningServer(tmp_path) as server:
        make_messages(server, TOKENS)
        waiting = [
            threading.Thread(target=server.post, args=("/api/campaigns", {"name": "waits"}), daemon=True)
            for _ in range(2 * THREADS["request"])
        ]
        with locked_for_writers(server.database):
            for thread in waiting:
                thread.start()
            time.sleep(1)
            for _ in range(20):
                assert server.get("/track/pixel/token-1", timeout=3).status == 200
                assert server.get("/health", timeout=3).status == 200
        for thread in waiting:
            thread.join(30)
        assert server.get("/api/messages/2").json()["open_count"] == 20


@pytest.mark.parametrize("text", ["database is locked", "locking protocol"])
def test_a_database_that_is_locked_when_a_worker_begins_is_one_that_is_away(text: str) -> None:
    """SQLite says the second when readers were kept out for ten seconds. A worker that cannot begin ends the whole server."""
    with pytest.raises(prepare.DatabaseAway), prepare._in_one_line(settings.CONF):
        raise OperationalError(text)
