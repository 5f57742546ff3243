"""The clock is set back an hour while the server runs: each hit is recorded once, nothing is applied again or removed too early.

The kernel's clock is everybody's, and a time namespace shifts the monotonic clock alone. So each process of the server gets a
`sitecustomize` that shifts Python's `time.time()`, `time.time_ns()` and the times that `os.utime()` sets by what a file says: all
that the spool, ingestion and metrics look at. (`datetime.now()` keeps the kernel's time; nothing of these asks for it.)
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.conf import settings

from campaigns.events import EventKind, now_ms
from campaigns.models import Message
from tests.faults.hitting import Hits, check_each_once, make_messages, wait_until_drained
from tests.faults.test_lost_commits import copy, events, in_applied, kill_workers, put_all_away, put_back
from tests.tracking.running import RunningServer, until
from tracking.conf import PROJECT_ROOT
from tracking.ingest.drain import drain, tidy
from tracking.ingest.status import ingest_status
from tracking.metrics.names import LOST_AT
from tracking.metrics.shared import process_counters
from tracking.models import SpoolPosition
from tracking.spool import reader, writer
from tracking.spool.lines import hit_line

HOUR = 3600
TOKENS = [f"token-{number}" for number in range(20)]

SITECUSTOMIZE = """
import os, time
kernels, kernels_ns, utime = time.time, time.time_ns, os.utime
def shift():
    with open(os.environ["SHIFTED_CLOCK"]) as file:
        return int(file.read() or 0)
time.time = lambda: kernels() + shift()
time.time_ns = lambda: kernels_ns() + shift() * 10**9
os.utime = lambda path, times=None, **how: utime(path, times or (time.time(), time.time()), **how)
"""


class ShiftedClock:
    """Of a server's processes; `seconds` may be set at any time."""

    def __init__(self, folder: Path) -> None:
        (folder / "python").mkdir()
        (folder / "python" / "sitecustomize.py").write_text(SITECUSTOMIZE)
        self.file = folder / "clock"
        self.environment = {"PYTHONPATH": str(folder / "python"), "SHIFTED_CLOCK": str(self.file)}
        self.set(0)

    def set(self, seconds: int) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self.file)


def status(server: RunningServer) -> dict[str, Any]:
    command = [sys.executable, "-m", "tracking.cli.main", "ingest", "status", "--json"]
    ran = subprocess.run(command, env=server.environment(), cwd=PROJECT_ROOT, capture_output=True, timeout=60, check=True)
    found: dict[str, Any] = orjson.loads(ran.stdout)
    return found


@pytest.mark.server
@pytest.mark.slow
def test_hits_are_recorded_once_while_the_clock_goes_back_and_forth(tmp_path: Path) -> None:
    clock = ShiftedClock(tmp_path)
    with RunningServer(tmp_path, workers=2, **clock.environment) as server:
        links = make_messages(server, TOKENS)
        with Hits(server.port, TOKENS, rate=200) as pixels, Hits(server.port, TOKENS, rate=200, links=links) as clicks:
            pixels.go_on()
            copy(server, tmp_path / "copy")
            clock.set(-HOUR)
            pixels.go_on()  # in segments that were begun before
            wait_until_drained(server)
            names = {path.name for path in server.spool.rglob("*.jsonl")}
            kill_workers(server)
            pixels.go_on()
            wait_until_drained(server)
            found = status(server)
            assert found["lag_seconds"] < 5
            assert server.get("/health/ready").json()["status"] == "ready"
            clock.set(0)
            pixels.go_on()
            clock.set(-HOUR)
            pixels.go_on()
        wait_until_drained(server)
        check_each_once(server, pixels, clicks)
        before, kept = events(server), {path.name for path in server.spool.rglob("*.jsonl")}
        assert min(kept) not in names, "those that are begun after it are called as if they were older"

        put_all_away(server)  # tidied, an hour before some of these were written
        assert {*in_applied(server)} == kept
        assert (events(server), status(server)["pending"]) == (before, 0)

        put_back(server, tmp_path / "copy")
        assert events(server) < before
        server.start()
        until(lambda: events(server) >= before, 30)
        clock.set(0)
        put_all_away(server)
        check_each_once(server, pixels, clicks)
        assert events(server) == before
        assert {*in_applied(server)} == kept


def spool() -> Path:
    return settings.CONF.spool_dir


def write_one(count: int = 1) -> None:
    """A segment, with its writer gone."""
    hits = [hit_line(EventKind.OPENED, "uuid-token", now_ms())] * count
    assert writer.process_writer(spool()).append_many(hits)
    writer.close_writers()


@pytest.fixture
def hour_back(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the clock of this process back when it is called."""
    real, real_ns = time.time, time.time_ns

    def set_back() -> None:
        monkeypatch.setattr(time, "time", lambda: real() - HOUR)
        monkeypatch.setattr(time, "time_ns", lambda: real_ns() - HOUR * 10**9)

    return set_back


@pytest.mark.django_db
def test_segments_of_both_times_are_applied_and_kept(message: Message, hour_back) -> None:
    write_one(2)
    assert drain() == 0
    write_one(3)
    [old] = reader.applied_segments(spool())
    hour_back()
    write_one(4)
    found = ingest_status()
    assert (found["segments"], found["lag_seconds"]) == (2, pytest.approx(0, abs=1)), "of a hit that comes from the future no age is known"
    tidy()
    assert drain() == 0
    tidy()
    message.refresh_from_db()
    assert message.open_count == 9
    assert len(reader.applied_segments(spool())) == 3
    assert {segment.name for segment in reader.applied_segments(spool())} == {*SpoolPosition.objects.values_list("segment", flat=True)}
    assert old.path.exists()


@pytest.mark.django_db
def test_a_loss_of_an_hour_that_is_to_come_is_an_old_one(db: None, hour_back) -> None:
    process_counters(spool()).hold(LOST_AT, int(time.time()))
    assert not ingest_status()["disk"]["writable"]
    hour_back()
    assert ingest_status()["disk"]["writable"]
