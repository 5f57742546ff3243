"""What the garbage collector does not look through again."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
from django.db import connection

from tracking import garbage, server
from tracking.ingest import worker


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_what_is_loaded_is_left_alone_and_what_comes_later_is_collected() -> None:
    garbage.settle()
    assert gc.get_freeze_count() > 10_000
    cycle: list[object] = []
    cycle.append(cycle)
    del cycle
    assert gc.isenabled()
    assert gc.collect() >= 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("start", ["worker", "ingester"])
def test_workers_and_ingesters_begin_with_it(start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settled = []
    monkeypatch.setattr(garbage, "settle", lambda: settled.append(True))
    monkeypatch.setattr(type(connection), "write_in_bulk", lambda self: None, raising=False)  # it would last
    if start == "worker":
        server.create_tracking_app()
    else:
        stop = threading.Event()
        stop.set()
        worker.run(stop)
    assert settled == [True]
