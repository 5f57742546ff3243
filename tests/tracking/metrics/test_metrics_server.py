"""`/metrics` of real servers: right over all processes, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.hitting import Hits
from tests.tracking.running import RunningServer, until
from tracking.metrics import shared
from tracking.metrics.shared import Counters

pytestmark = [pytest.mark.server, pytest.mark.slow]


def number(server: RunningServer, name: str, **labels: str) -> float:
    reply = server.get("/metrics")
    assert reply.status == 200, reply.text
    samples = (each for family in text_string_to_metric_families(reply.text) for each in family.samples)
    return sum(each.value for each in samples if each.name == name and all(each.labels[key] == value for key, value in labels.items()))


def pages(server: RunningServer) -> list[Path]:
    return sorted(shared.SHARED_MEMORY.glob(f"{Counters(server.spool)._prefix()}*"))


def pids(server: RunningServer) -> set[int]:
    """The processes that have a page."""
    return {int(path.name.split("-")[3]) for path in pages(server)}


@pytest.fixture
def token(server: RunningServer) -> str:
    reply = server.post("/api/messages", {"recipient_email": "user@example.com", "tracking_token": "uuid-token"})
    assert reply.status == 201, reply.text
    return "uuid-token"


@pytest.fixture
def server(tmp_path: Path):
    with RunningServer(tmp_path, workers=2) as running:
        yield running


def test_hits_that_any_worker_answered_are_all_there_whoever_is_asked(server: RunningServer, token: str) -> None:
    n = 0
    until(lambda: len(server.ingesters()) == 1)
    while not set(server.workers()) <= pids(server) or n < 50:
        assert server.get(f"/track/pixel/{token}").status == 200
        assert server.get(f"/track/redirect/{token}?url=https://example.com/").status == 302
        n += 1
        assert n < 1_000, "one worker gets nothing"
    for _ in range(6):
        assert number(server, "tracking_hits_total", kind="pixel", status="2xx") == n
        assert number(server, "tracking_hits_total", kind="redirect", status="3xx") == n
    until(lambda: number(server, "tracking_ingest_events_total", outcome="applied") == 2 * n)
    until(lambda: number(server, "tracking_ingesters") == 1)
    assert number(server, "tracking_spool_bytes") == 0
    assert server.stop() == 0
    assert pages(server) == []


def test_numbers_do_not_go_back_when_workers_and_ingester_are_killed(server: RunningServer, token: str) -> None:
    seen, backwards = 0.0, []
    with Hits(server.port, [token], rate=300) as hits:
        until(lambda: hits.count > 100)
        for _ in range(3):
            for kind in (server.workers, server.ingesters):
                until(lambda kind=kind: kind())
                os.kill(kind()[0], signal.SIGKILL)
                for _ in range(5):
                    time.sleep(0.1)
                    if server.get_or_none("/health") is None:
                        continue
                    now = number(server, "tracking_hits_total", kind="pixel")
                    backwards += [(seen, now)] * (now < seen)
                    seen = now
    assert backwards == []
    assert hits.refused == []
    assert hits.count <= number(server, "tracking_hits_total", kind="pixel") <= hits.count + hits.broken
    assert len(pages(server)) <= len(server.processes())


def test_a_restart_begins_where_it_ended(server: RunningServer, token: str) -> None:
    for _ in range(10):
        server.get(f"/track/pixel/{token}")
    assert server.stop() == 0
    server.start()
    assert number(server, "tracking_hits_total", kind="pixel", status="2xx") == 10
