"""Giving way to hits: ingestion rests while they want every core.

A lower priority alone would not do: at SCHED_IDLE a batch that has begun may hold SQLite's write lock for seconds, and at a
priority that lets it end soon the ingester takes a quarter of what hits could have. (With nginx before us it took half: the
kernel leaves those that wake each other on one core and the ingester alone on the other, so it does not even wait.) So a batch
runs at nearly the usual priority, and then, unless a core had nothing to do, is a pause until one has.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: Cores with nothing to do, on average, from which on there is room. On two cores a flood that one worker answers leaves 0.1 to 0.4,
#: as many hits as ingestion can keep up with leave 0.8 while it rests.
ROOM = min(0.5, 0.25 * (os.cpu_count() or 1))
#: A look at how much there is takes so long, in seconds. (The kernel counts hundredths, and one alone is not enough.)
LOOK = 0.05
#: In a flood ingestion then takes a twentieth of a core.
LONGEST_PAUSE = 1.0
#: When hits have waited for so long in the spool, in seconds, it is enough: ingestion takes its share.
PATIENCE = 60.0

#: Seconds since the machine started, and those that its cores had nothing to do, added up (Linux; elsewhere there is no pause). In a
#: container with a quota of its own they are the whole machine's, and the priority is all there is.
UPTIME = Path("/proc/uptime")


@dataclass
class Courtesy:
    """Called between batches; `stop` ends a pause, and ingestion."""

    stop: threading.Event
    looked_at: float = 0.0
    idle: float = 0.0

    def __call__(self, lag: float) -> bool:
        """Rest, if hits want the cores and the one that was applied last had waited `lag` seconds. Whether to go on."""
        until = time.monotonic() + LONGEST_PAUSE
        while not (self.room() or lag >= PATIENCE or time.monotonic() >= until or self.stop.is_set()):
            self.stop.wait(LOOK)
        return not self.stop.is_set()

    def room(self) -> bool:
        """Whether there was, since this was last asked."""
        with suppress(OSError, ValueError):
            uptime, idle = map(float, UPTIME.read_text().split())
            passed, unused = uptime - self.looked_at, idle - self.idle
            self.looked_at, self.idle = uptime, idle
            return unused >= ROOM * passed
        return True
