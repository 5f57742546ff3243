"""When ingestion rests, and when it does not."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from campaigns.models import Event, Message
from tests.tracking.ingest.test_drain import append, hit
from tracking.ingest import courtesy
from tracking.ingest.courtesy import Courtesy
from tracking.ingest.drain import drain, drain_once

SECOND = 1_000_000_000


@pytest.fixture
def spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the kernel says."""
    monkeypatch.setattr(courtesy, "SCHEDSTAT", tmp_path / "schedstat")
    (tmp_path / "schedstat").write_text("0 0 0\n")
    return tmp_path / "schedstat"


def test_it_rests_while_it_has_to_wait_for_a_core(spent: Path) -> None:
    rest = Courtesy(threading.Event())
    for on_core, waited, pause in ((0.01, 0.001, 0), (0.02, 0.031, 0.3), (0.03, 0.041, 0), (0.5, 2.0, courtesy.LONGEST_PAUSE)):
        spent.write_text(f"{int(on_core * SECOND)} {int(waited * SECOND)} 1\n")
        assert rest.pause(lag=1) == pytest.approx(pause)


def test_it_does_not_when_hits_have_waited_long(spent: Path) -> None:
    spent.write_text(f"{SECOND} {9 * SECOND} 1\n")
    assert Courtesy(threading.Event()).pause(courtesy.PATIENCE) == 0


def test_it_does_not_where_the_kernel_says_nothing(spent: Path) -> None:
    rest = Courtesy(threading.Event())
    spent.write_text("?\n")
    assert rest.pause(lag=0) == 0
    spent.unlink()
    assert rest.pause(lag=0) == 0


def test_this_kernel_is_understood() -> None:
    if not courtesy.SCHEDSTAT.exists():
        pytest.skip("no /proc/thread-self/schedstat: not Linux, or without CONFIG_SCHED_INFO")
    rest = Courtesy(threading.Event())
    rest.pause(lag=0)
    assert rest.on_core > 0


def test_a_stop_ends_the_pause_and_what_is_left_stays_for_later(message: Message, spent: Path) -> None:
    stop = threading.Event()
    stop.set()
    append(*[hit()] * 20)
    assert not drain_once(go_on=Courtesy(stop))
    assert Event.objects.count() == 0
    assert drain() == 0
    assert Event.objects.count() == 20
