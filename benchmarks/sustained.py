"""The rate that can go on for ever: so many pixels a second that the ingester, on the same cores, just keeps up.

For the first minute of more than that it gives way, and the backlog grows; after that it takes its share, see
`tracking.ingest.courtesy`. What is measured here is that share: an ingester that has lost its patience.
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks import servers
from benchmarks.bench import Bench
from benchmarks.hits import PATH, TOKENS, alternate
from benchmarks.load import load
from benchmarks.results import Row, paired
from tracking.conf import PROJECT_ROOT

#: How often the rate is halved in on.
STEPS = 5
#: A run is longer than one at full speed: a backlog must have time to show.
LONGER = 4
INGESTER = "from tracking.ingest import courtesy, worker; courtesy.PATIENCE = 0.0; worker.main()"
#: A backlog that grows by less than this share of what is applied is taken for one that does not.
GROWTH = 0.03


def sustained(bench: Bench) -> list[Row]:
    ours = servers.Tracking(bench)
    ours.make_messages(TOKENS)
    paths = bench.folder / "paths"
    paths.write_text("".join(f"/track/pixel/{token}\n" for token in TOKENS))

    def ingested(waiting: float) -> tuple[float, bool]:
        """Hits a second that were applied while load went on, with this share of requests waiting; whether the ingester kept up.

        Applied is what counts, answered is as much only as long as it keeps up. The first third of a run is left out: there the
        backlog finds its size. Then it goes up and down with each batch, so whether it grows is told by a line through all of it.
        """
        seconds = bench.seconds * LONGER
        moments: list[float] = []
        positions: list[int] = []
        backlogs: list[int] = []
        with ThreadPoolExecutor(1) as thread:
            run = thread.submit(ours.hit, "/", seconds, paths=paths, waiting=waiting)
            time.sleep(seconds / 3)
            until = time.monotonic() + seconds / 2
            while (now := time.monotonic()) < until:
                moments.append(now)
                positions.append(ours.position())
                backlogs.append(ours.written_bytes() - positions[-1])
                time.sleep(0.1)
            run.result()
        ours.wait_until_applied()  # so that nothing is left for raw's turn, and the next run begins at once
        applied, growth = (statistics.linear_regression(moments, sizes).slope for sizes in (positions, backlogs))
        return applied * ours.written() / ours.written_bytes(), growth <= GROWTH * applied

    raw = servers.raw(bench)
    with ours.ingester_stopped():
        bench.start([sys.executable, "-c", INGESTER], lambda: True, environment=ours.environment, cwd=PROJECT_ROOT)
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if ingested(middle)[1] else (middle, high)
        rates = alternate(
            bench,
            {"ours": lambda: ingested(high)[0], "raw": lambda: load(f"http://127.0.0.1:{raw}{PATH}", bench.seconds).rate},
        )
        print(f"  sustained: {ours.check_recorded()}")
    return [paired("pixel at a rate the ingester keeps up with, SQLite / raw ASGI (hits/s)", rates["ours"], rates["raw"], "≥ 1.2")]
