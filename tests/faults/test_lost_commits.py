"""A SQLite file that is older than its spool, as after a lost power or from a backup: it catches up, each hit once."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.hitting import Hits, check_each_once, make_messages, wait_until_drained
from tests.tracking.running import RunningServer, until

pytestmark = [pytest.mark.server, pytest.mark.slow]

TOKENS = [f"token-{number}" for number in range(40)]
HOUR = 3600.0


def files(server: RunningServer) -> list[Path]:
    """The database and its log. (The index of the log is made anew.)"""
    return [server.database, Path(f"{server.database}-wal")]


@contextmanager
def frozen(server: RunningServer) -> Iterator[None]:
    """A moment in which nothing moves."""
    family = server.processes()
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(family):
            os.kill(pid, signal.SIGCONT)


def copy(server: RunningServer, target: Path) -> None:
    target.mkdir()
    for path in files(server):
        if path.exists():
            shutil.copy2(path, target)


def put_back(server: RunningServer, copied: Path) -> None:
    for path in (*files(server), Path(f"{server.database}-shm")):
        path.unlink(missing_ok=True)
    for path in copied.iterdir():
        shutil.copy2(path, server.folder)


def lose_power(server: RunningServer) -> None:
    assert server.process is not None
    for pid in server.processes():
        os.kill(pid, signal.SIGKILL)
    server.process.wait(10)
    until(lambda: not server.get_or_none("/health"), 10)


def kill_workers(server: RunningServer) -> None:
    """Their segments are done then; those who follow begin others."""
    killed = server.workers()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(server.workers()) == len(killed) and not set(server.workers()) & set(killed), 30)
    until(lambda: server.get_or_none("/health"), 30)


def put_all_away(server: RunningServer) -> None:
    """Stop the server, with all segments applied and put with the applied ones: an ingester does that when it begins."""
    assert server.stop() == 0
    server.start()
    until(lambda: not list(server.spool.glob("*.jsonl")), 30)
    assert server.stop() == 0


def events(server: RunningServer) -> int:
    with sqlite3.connect(server.database) as database:
        found: int = database.execute("SELECT count(*) FROM events").fetchone()[0]
    database.close()
    return found


def in_applied(server: RunningServer) -> dict[str, Path]:
    return {path.name: path for path in (server.spool / "applied").glob("*.jsonl")}


def backdate(server: RunningServer, seconds: float) -> None:
    """Segments that were put away just now, or long ago, were so this much earlier."""
    for path in in_applied(server).values():
        at = path.stat().st_mtime - seconds
        os.utime(path, (at, at))


def test_commits_that_a_lost_power_took_back_are_made_again(tmp_path: Path) -> None:
    """Ingestion's commits on SQLite are not synced: after a lost power the file and its log are those of an earlier moment."""
    with RunningServer(tmp_path, workers=2) as server:
        links = make_messages(server, TOKENS)
        with Hits(server.port, TOKENS, rate=300) as pixels, Hits(server.port, TOKENS, rate=300, links=links) as clicks:
            pixels.go_on(200)
            with frozen(server):  # perhaps in the middle of a commit
                copy(server, tmp_path / "copy")
            pixels.go_on(200)
            kill_workers(server)
            pixels.go_on(200)
        wait_until_drained(server)
        check_each_once(server, pixels, clicks)
        before = events(server)
        lose_power(server)
        put_back(server, tmp_path / "copy")
        lost = before - events(server)
        assert lost > 400
        server.start()
        until(lambda: events(server) >= before, 30)
        wait_until_drained(server)
        check_each_once(server, pixels, clicks)
        assert events(server) == before
        assert "is applied again from" in server.log


def test_a_database_from_a_copy_of_an_hour_ago_catches_up(tmp_path: Path) -> None:
    """The copy is a plain one of a server that had stopped. Hours pass by the times of files."""
    with RunningServer(tmp_path, workers=2) as server:
        links = make_messages(server, TOKENS)
        with Hits(server.port, TOKENS, rate=300) as pixels, Hits(server.port, TOKENS, rate=300, links=links) as clicks:
            pixels.go_on()
            kill_workers(server)
            pixels.go_on()
        put_all_away(server)
        copy(server, tmp_path / "copy")
        known = {*in_applied(server)}
        backdate(server, 25 * HOUR)  # the next tidying removes them, the copy knows their positions
        server.start()
        with pixels, clicks:
            for _ in range(2):
                pixels.go_on()
                kill_workers(server)
            pixels.go_on()
        put_all_away(server)
        new = {*in_applied(server)} - known
        assert len(new) >= 3
        before = events(server)
        check_each_once(server, pixels, clicks)

        backdate(server, HOUR)
        oldest = in_applied(server)[min(new)]
        os.utime(oldest, (time.time() - 30 * HOUR,) * 2)  # past keeping, but the restored database does not have it
        put_back(server, tmp_path / "copy")
        assert events(server) < before
        server.start()
        until(lambda: events(server) >= before, 30)
        put_all_away(server)
        check_each_once(server, pixels, clicks)
        assert events(server) == before
        assert {*in_applied(server)} >= new
