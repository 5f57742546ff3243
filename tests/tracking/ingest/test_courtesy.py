"""When ingestion rests, and when it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from campaigns.models import Event, Message
from tests.tracking.ingest.test_drain import append, hit
from tracking.ingest import courtesy
from tracking.ingest.courtesy import LONGEST_PAUSE, LOOK, PATIENCE, Courtesy
from tracking.ingest.drain import drain, drain_once


class Machine(threading.Event):
    """Two cores, time that only passes while the ingester rests or when it is told to, and how many cores hits use meanwhile."""

    def __init__(self, uptime: Path) -> None:
        super().__init__()
        self.uptime, self.now, self.idle, self.used = uptime, 1000.0, 500.0, 0.0

    def passes(self, seconds: float, ingesting: float = 0.0) -> None:
        self.now += seconds
        self.idle += seconds * max(0.0, 2.0 - self.used - ingesting)
        self.uptime.write_text(f"{self.now:.2f} {self.idle:.2f}\n")

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.passes(timeout)
        return self.is_set()

    def batch(self, lag: float = 1.0) -> float:
        """Ingestion of 250 ms, and how long the rest after it was."""
        self.passes(0.25, ingesting=1.0)
        began = self.now
        self.rest(lag)
        return self.now - began


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(tmp_path / "uptime")
    machine.passes(0)
    machine.rest = Courtesy(machine)
    monkeypatch.setattr(courtesy, "UPTIME", machine.uptime)
    monkeypatch.setattr(courtesy, "ROOM", 0.5)
    with monkeypatch.context() as patched:
        patched.setattr(courtesy, "time", type("", (), {"monotonic": staticmethod(lambda: machine.now)}))
        yield machine


def test_it_rests_while_hits_use_every_core(machine: Machine) -> None:
    machine.batch()
    machine.used = 1.95
    assert machine.batch() == pytest.approx(LONGEST_PAUSE, abs=LOOK)


def test_it_does_not_where_a_core_has_nothing_to_do(machine: Machine) -> None:
    machine.batch()
    for machine.used in (0.0, 0.3, 0.45):
        assert machine.batch() == 0


def test_it_looks_only_whether_there_is_room_without_itself(machine: Machine) -> None:
    machine.batch()
    machine.used = 1.2
    assert machine.batch() == pytest.approx(LOOK)


def test_it_does_not_when_hits_have_waited_long(machine: Machine) -> None:
    machine.batch()
    machine.used = 2.0
    assert machine.batch(lag=PATIENCE) == 0


def test_it_does_not_where_the_kernel_says_nothing(machine: Machine) -> None:
    for said in ("?\n", "", "1 2 3\n"):
        machine.uptime.write_text(said)
        assert machine.rest.room()
    machine.uptime.unlink()
    assert machine.rest.room()


def test_this_kernel_is_understood() -> None:
    if not courtesy.UPTIME.exists():
        pytest.skip("no /proc/uptime: not Linux")
    rest = Courtesy(threading.Event())
    rest.room()
    assert rest.looked_at > 0


def test_a_stop_ends_the_pause_and_what_is_left_stays_for_later(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr(Courtesy, "room", lambda self: False)
    append(*[hit()] * 20)
    began = time.monotonic()
    assert not drain_once(go_on=Courtesy(stop))
    assert time.monotonic() - began < LONGEST_PAUSE
    assert Event.objects.count() == 0
    assert drain() == 0
    assert Event.objects.count() == 20
