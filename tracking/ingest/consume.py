"""Taking in what other machines ship: from the stream into the database, exactly once by position.

A chunk is applied where the segment's position lies in it, skipped where that is behind it, and held where it is before it,
because another consumer is at the chunk between or that was lost. A chunk that was held too long is let go: its shipper sends
again what the database does not have.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby

from redis import RedisError

from tracking.ingest.drain import apply_chunk, drain, drain_once
from tracking.spool.stream import Chunk, Stream

#: Chunks that are asked for at once: 2 MB.
READ_CHUNKS = 8
#: Chunks held at once: 32 MB, more than two machines send of segments that do not go on.
HELD_CHUNKS = 128
#: Longer than it takes until the chunks of a consumer that died are another's.
HELD_SECONDS = 15.0
CLAIM_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Taken:
    entry: bytes
    chunk: Chunk
    at: float


class Consuming:
    """Takes chunks in, and drains what this machine has in a spool of its own."""

    def __init__(self, url: str) -> None:
        self.stream = Stream(url)
        self._taken: dict[bytes, _Taken] = {}  # by entry; not finished
        self._done: list[bytes] = []  # applied or let go, and still in the stream
        self._claim_at = 0.0

    def step(self) -> bool:
        """Whether something was taken in. Raises what `AWAY` is; then what was taken stays and is tried again."""
        drained = drain_once()
        self.stream.attempt(self._take)
        try:
            applied = self._apply()
        finally:
            self.stream.attempt(self._finish)
        return applied or drained

    def finish(self) -> None:
        """At the end. What is held is another consumer's in a moment. Raises what `AWAY` is."""
        drain()
        self.stream.attempt(self._leave)
        self.stream.close()

    def _take(self) -> bool:
        now = time.monotonic()
        if now >= self._claim_at:
            claimed = self.stream.claim(READ_CHUNKS)
            if not claimed:
                self._claim_at = now + CLAIM_SECONDS
            self._remember(claimed)
        if len(self._taken) < HELD_CHUNKS:
            self._remember(self.stream.read(READ_CHUNKS))
        return True

    def _remember(self, found: list[tuple[bytes, Chunk]]) -> None:
        for entry, chunk in found:
            self._taken.setdefault(entry, _Taken(entry, chunk, time.monotonic()))

    def _apply(self) -> bool:
        applied = False
        by_segment = sorted(self._taken.values(), key=lambda taken: (taken.chunk.segment, taken.chunk.start))
        for name, each in groupby(by_segment, key=lambda taken: taken.chunk.segment):
            gap = False
            for taken in each:
                if not gap:
                    chunk = taken.chunk
                    position = apply_chunk(name, chunk.lines(), torn=chunk.torn)
                    if position is None or position >= chunk.end:
                        self._let_go(taken)
                        applied = True
                        continue
                    gap = True
                if time.monotonic() - taken.at > HELD_SECONDS:
                    self._let_go(taken)
        return applied

    def _let_go(self, taken: _Taken) -> None:
        del self._taken[taken.entry]
        self._done.append(taken.entry)

    def _finish(self) -> bool:
        done, self._done = self._done, []
        try:
            self.stream.finish(done)
        except RedisError:
            self._done = done  # while they are there nobody sends them again; and who reads them again skips them
            raise
        return True

    def _leave(self) -> bool:
        if not self._taken and not self._done:
            self.stream.leave()
        return True
