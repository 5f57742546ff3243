"""Readers and writers of the API while hits are taken in."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import quantiles

from benchmarks import servers
from benchmarks.bench import Bench
from benchmarks.child import run_child
from benchmarks.hits import PATH, TOKENS, alternate
from benchmarks.load import CONNECTIONS, CannotMeasure
from benchmarks.results import Row, alone, paired

WRITERS = 4
CAMPAIGNS = 100
#: Hits a second beside which readers are measured, and the pause of each connection that makes it so.
RATE = 2_000
PAUSE_MS = CONNECTIONS * 1000 // RATE


def writes(bench: Bench) -> list[Row]:
    """The ingester has more to do than it can, from the first write to the last."""
    environment = servers.service_environment(bench.folder / "tracking")
    (bench.folder / "tracking").mkdir()
    run_child("benchmarks.ingest:fill_spool", environment, messages=10_000, hits=bench.messages)
    ours = servers.Tracking(bench)
    while not ours.applied():  # it is at work
        time.sleep(0.05)
    took: list[float] = []
    errors: list[str] = []
    began_at, applied = time.monotonic(), ours.applied()
    until = began_at + 2 * bench.seconds

    def write(number: int) -> None:
        """Messages and campaigns in turn, as fast as they are answered."""
        with _connection(ours.port) as ask:
            while time.monotonic() < until:
                number += WRITERS
                began = time.perf_counter()
                try:
                    if number % 2:
                        status, _ = ask("POST", "/api/messages", {"campaign_id": 1, "recipient_email": f"{number}@example.com"})
                    else:
                        status, _ = ask("PATCH", "/api/campaigns/1", {"name": f"campaign {number}"})
                except (OSError, http.client.HTTPException) as error:
                    errors.append(repr(error))
                    return
                took.append(time.perf_counter() - began)
                if status not in (200, 201):
                    errors.append(str(status))

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(write, range(WRITERS)))
    rate = (ours.applied() - applied) / (time.monotonic() - began_at)
    if ours.written() <= ours.applied():
        raise CannotMeasure("the ingester was done before the writers were: raise BENCH_MESSAGES")
    print(f"  writes: {len(took):,} by {WRITERS} clients at once, {rate:,.0f} hits/s applied meanwhile; {errors[:1] or 'no error'}")
    return [
        alone("API writes beside a full-speed ingester, SQLite: errors", len(errors), "≤ 0"),
        alone("API writes beside a full-speed ingester, SQLite: p95 (ms)", quantiles(took, n=20)[-1] * 1000, "≤ 150"),
    ]


def readers(bench: Bench) -> list[Row]:
    (bench.folder / "tracking").mkdir()
    campaign = run_child("benchmarks.export:make", servers.service_environment(bench.folder / "tracking"), messages=bench.messages)
    ours = servers.Tracking(bench)
    for number in range(CAMPAIGNS):
        ours.post("/api/campaigns", {"name": f"campaign {number}"})
    ours.make_messages(TOKENS)

    def lists() -> float:
        """p99 of `GET /api/campaigns`, ms."""
        took, until = [], time.monotonic() + bench.seconds
        with _connection(ours.port) as ask:
            while time.monotonic() < until:
                began = time.perf_counter()
                status, _ = ask("GET", "/api/campaigns", None)
                took.append((time.perf_counter() - began) * 1000)
                if status != 200:
                    raise CannotMeasure(f"GET /api/campaigns was answered {status}")
        return quantiles(took, n=100)[-1]

    def lists_beside_hits() -> float:
        with _in_background(lambda: ours.hit(PATH, bench.seconds + 1, waiting=1, wait_ms=PAUSE_MS)):
            time.sleep(0.5)
            return lists()

    def pixel_beside_export() -> float:
        """p99 of the pixel, ms."""
        stop = threading.Event()

        def export() -> None:
            while not stop.is_set():
                servers.request(ours.port, "GET", f"/api/campaigns/{campaign}/export")

        with _in_background(export):
            try:
                found = ours.hit(PATH, bench.seconds, waiting=1, wait_ms=PAUSE_MS)
            finally:
                stop.set()
        print(f"  pixel beside an export: {found.rate:,.0f} hits/s")
        return found.p99 * 1000

    taken = alternate(bench, {"with": lists_beside_hits, "without": lists})
    pixels = alternate(bench, {"export": pixel_beside_export})["export"]
    print(f"  readers: {ours.check_recorded()}")
    return [
        paired(f"GET /api/campaigns beside {RATE:,} hits/s / without: p99 (ms)", taken["with"], taken["without"], "≤ 5"),
        alone(f"pixel at {RATE:,} hits/s while {bench.messages:,} rows are exported: p99 (ms)", sorted(pixels)[len(pixels) // 2], "≤ 20"),
    ]


@contextmanager
def _connection(port: int) -> Iterator[Callable[[str, str, object], tuple[int, bytes]]]:
    """What asks on one connection that is kept alive."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(method: str, path: str, data: object) -> tuple[int, bytes]:
        connection.request(method, path, None if data is None else json.dumps(data), {"Content-Type": "application/json"} if data else {})
        response = connection.getresponse()
        return response.status, response.read()

    try:
        yield ask
    finally:
        connection.close()


@contextmanager
def _in_background(work: Callable[[], object]) -> Iterator[None]:
    """Do it in a thread meanwhile; what it raises comes out at the end."""
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(work)
        yield
        running.result()
