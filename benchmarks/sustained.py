"""The rate that can go on for ever: so many pixels a second that the ingester, on the same cores, just keeps up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks import servers
from benchmarks.bench import Bench
from benchmarks.hits import TOKENS, alternate, beside
from benchmarks.results import Row, paired

#: How often the rate is halved in on.
STEPS = 5
#: A run is longer than one at full speed: a backlog must have time to show.
LONGER = 2
#: Of the hits of a run, so many may be on their way at its end: what comes within a batch and a pause of the ingester.
ON_THEIR_WAY = 0.05


def sustained(bench: Bench) -> list[Row]:
    ours = servers.Tracking(bench)
    ours.make_messages(TOKENS)
    paths = bench.folder / "paths"
    paths.write_text("".join(f"/track/pixel/{token}\n" for token in TOKENS))

    def ingested(waiting: float) -> tuple[float, bool]:
        """Hits a second that were applied while load went on, with this share of requests waiting; whether the ingester kept up.

        Applied is what counts, answered is as much only as long as it keeps up. The first third of a run is left out: there the
        backlog finds its size.
        """
        _wait_until_applied(ours)
        seconds = bench.seconds * LONGER
        with ThreadPoolExecutor(1) as thread:
            run = thread.submit(ours.hit, "/", seconds, paths=paths, waiting=waiting)
            time.sleep(seconds / 3)
            began, first, backlog = time.monotonic(), _position(ours), _backlog(ours)
            time.sleep(seconds / 2)
            ended, last, growth = time.monotonic(), _position(ours), _backlog(ours) - backlog
            run.result()
        bytes_a_hit = ours.written_bytes() / ours.written()
        return (last - first) / bytes_a_hit / (ended - began), growth <= ON_THEIR_WAY * (last - first)

    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if ingested(middle)[1] else (middle, high)
    rates = alternate(bench, {"ours": lambda: ingested(high)[0], "raw": beside(ours, servers.raw(bench), bench.seconds)})
    print(f"  sustained: {ours.check_recorded()}")
    return [paired("pixel at a rate the ingester keeps up with, SQLite / raw ASGI (hits/s)", rates["ours"], rates["raw"], "≥ 1.2")]


def _position(ours: servers.Tracking) -> int:
    """Bytes of the spool that are applied."""
    return int(ours.query("SELECT coalesce(sum(position), 0) FROM spool_positions"))


def _backlog(ours: servers.Tracking) -> int:
    return ours.written_bytes() - _position(ours)


def _wait_until_applied(ours: servers.Tracking) -> None:
    while _backlog(ours):
        time.sleep(0.1)
