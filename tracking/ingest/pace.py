"""How much a drain does at once, and until when. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass

#: How long a batch may hold the database's locks, in seconds.
HOLD_SECONDS = 0.25
#: The same where one lock is for all who write (SQLite) and others do write, or want the cores. The longer one takes a quarter off
#: the CPU of a hit: a message or a page that several hits of a batch change is written once.
SHARED_HOLD_SECONDS = 0.05
#: For so long after others were seen they are expected to come again.
COMPANY_SECONDS = 1.0
MIN_BATCH, MAX_BATCH = 50, 20_000


class Pace:
    """How many lines a batch takes, so that it holds the database's locks as long as is allowed."""

    def __init__(self) -> None:
        self._rate = 10_000.0  # lines a second
        self._company_until = 0.0
        self.lag = 0.0  # of the last batch: seconds from its first hit to its end

    def lines(self, hold: float, left: float | None) -> int:
        """For a batch that may hold the locks for `hold` seconds, with `left` to go: who has little time takes little."""
        if left is None:
            return max(MIN_BATCH, min(MAX_BATCH, int(self._rate * hold)))
        return max(1, min(MAX_BATCH, int(self._rate * min(hold, left))))

    def took(self, lines: int, seconds: float) -> None:
        """A batch of so many held the locks so long. A single one says little: it may have been short, or copied SQLite's log."""
        self._rate = max(self._rate / 2, min(lines / max(0.001, seconds), self._rate * 2))

    def took_too_long(self) -> None:
        """A batch was given up, and nothing of it is done: the next one is smaller."""
        self._rate = max(1.0, self._rate / 2)

    def met_others(self) -> None:
        """They wrote, wait to write, or want the cores."""
        self._company_until = time.monotonic() + COMPANY_SECONDS

    @property
    def alone(self) -> bool:
        return time.monotonic() >= self._company_until


@dataclass
class Deadline:
    """When to stop; None is never."""

    at: float | None

    @property
    def left(self) -> float | None:
        return None if self.at is None else max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.at is not None and time.monotonic() >= self.at
