"""Giving way to hits: ingestion rests while others want every core.

A lower priority alone would not do: at SCHED_IDLE a batch that has begun may hold SQLite's write lock for seconds, and at a
priority that lets it end soon the ingester takes a quarter of what hits could have. So a batch runs at nearly the usual
priority, and what follows it is a pause, while the kernel says that we had to wait for a core.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Of the time in which this process could have run, the share it had to wait, from which on the cores are wanted by others.
#: Beside hits that take both of two cores it is 0.7; beside as many as ingestion can keep up with, 0.2.
CROWDED = 0.5
#: Pause for each second of CPU: ingestion then takes 3 % of a core.
PAUSE = 30.0
LONGEST_PAUSE = 1.0
#: When hits have waited for so long in the spool, in seconds, it is enough: ingestion takes its share.
PATIENCE = 60.0

#: Nanoseconds on a core and waiting for one, of the thread that reads it (Linux; elsewhere there is no pause).
SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass
class Courtesy:
    """Called between batches; `stop` ends a pause, and ingestion."""

    stop: threading.Event
    on_core: int = 0
    waited: int = 0

    def __call__(self, lag: float) -> bool:
        """Rest, if others want the cores and the hit that was applied last had waited `lag` seconds. Whether to go on."""
        pause = self.pause(lag)
        if pause:
            self.stop.wait(pause)
        return not self.stop.is_set()

    def pause(self, lag: float) -> float:
        """Seconds to rest for what was done since the last call."""
        with suppress(OSError, ValueError):
            on_core, waited = map(int, SCHEDSTAT.read_text().split()[:2])
            busy, delayed = on_core - self.on_core, waited - self.waited
            self.on_core, self.waited = on_core, waited
            if lag < PATIENCE and delayed > CROWDED * (busy + delayed):
                return min(LONGEST_PAUSE, PAUSE * busy / 1e9)
        return 0.0
