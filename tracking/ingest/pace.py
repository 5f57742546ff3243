"""How much a drain does at once, and until when. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass

#: How long a batch may hold the database's locks, in seconds. SQLite has one write lock for all, hence less there.
HOLD_SECONDS = {"sqlite": 0.05, "postgresql": 0.25}
MIN_BATCH, MAX_BATCH = 50, 5_000


class Pace:
    """How many lines a batch takes, so that it holds the database's locks as long as HOLD_SECONDS allows."""

    def __init__(self) -> None:
        self._lines = 500
        self.lag = 0.0  # of the last batch: seconds from its first hit to its end

    def lines(self, hold: float, left: float | None) -> int:
        """For a batch that may hold the locks for `hold` seconds, with `left` to go: who has little time takes little."""
        if left is None:
            return self._lines
        return max(MIN_BATCH, int(self._lines * min(1.0, left / hold)))

    def took(self, lines: int, seconds: float, hold: float) -> None:
        """A batch of so many held the locks so long. A single one says little: it may have been short, or copied SQLite's log."""
        aim = int(lines * hold / max(0.001, seconds))
        self._lines = max(MIN_BATCH, self._lines // 2, min(MAX_BATCH, aim, self._lines * 2))


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
