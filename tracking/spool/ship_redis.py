"""The shipping end of the stream: what of a spool is on its way, and what is to be sent again. Pure."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tracking.spool.reader import Segment
from tracking.spool.stream import MAX_CHUNKS, WARN_SECONDS, Chunk, Stream, read_chunk

logger = logging.getLogger("tracking.spool")

#: Chunks on their way at once, of a segment and of a machine: 16 MB in Redis, and no segment keeps the others waiting.
SEGMENT_CHUNKS, NODE_CHUNKS = 16, 64
#: A position that does not move for so long: we look whether the chunk is still in the stream, and send again what is not.
STUCK_SECONDS = 3.0
#: After so long it is sent again though it is there: nobody will get it any more, whatever was done to the group.
ABANDONED_SECONDS = 1800.0
#: After so long it is said that nobody takes hits in.
IDLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Sent:
    entry: bytes
    start: int
    end: int


@dataclass(slots=True)
class _Flow:
    """A segment on its way."""

    position: int  # as the database has it
    moved_at: float  # when that moved, or the first chunk was sent
    sent: deque[_Sent] = field(default_factory=deque)

    @property
    def next(self) -> int:
        return self.sent[-1].end if self.sent else self.position

    def move(self, position: int, now: float) -> None:
        if position != self.position:
            self.position, self.moved_at = position, now
        while self.sent and self.sent[0].end <= position:
            self.sent.popleft()


class Shipper:
    """Sends what is in a machine's spool, in order for each segment, and again from the database's position where that stops."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._flows: dict[str, _Flow] = {}
        self._warn_at = float("-inf")

    @property
    def underway(self) -> int:
        """Chunks that were sent and are not applied, as far as we know."""
        return sum(len(flow.sent) for flow in self._flows.values())

    def step(self, positions: Mapping[Segment, int | None]) -> bool:
        """Send what there is room for; whether anything was.

        `positions` are the segments that wait, as the database has them; None where it is away: then what it has seen before goes on,
        so that Redis holds as much as it may. Raises RedisError.
        """
        now = time.monotonic()
        for gone in self._flows.keys() - {segment.name for segment in positions}:
            del self._flows[gone]  # applied to its end
        for segment, position in positions.items():
            self._follow(segment.name, position, now)
        return self._send([(segment, self._flows[segment.name]) for segment in positions if segment.name in self._flows], now)

    def _follow(self, name: str, position: int | None, now: float) -> None:
        flow = self._flows.get(name)
        if position is None:
            if flow is not None:
                flow.moved_at = now  # nothing can move
        elif flow is None:
            self._flows[name] = _Flow(position, now)
        else:
            flow.move(position, now)
            if flow.sent and self._is_lost(flow, now):
                self.stream.discard([sent.entry for sent in flow.sent])
                flow.sent.clear()

    def _is_lost(self, flow: _Flow, now: float) -> bool:
        if flow.position < flow.sent[0].start:
            return True  # the database was put back
        still = now - flow.moved_at
        if still < STUCK_SECONDS:
            return False
        if still > ABANDONED_SECONDS or not self.stream.has(flow.sent[0].entry):
            return True
        if still > IDLE_SECONDS and now >= self._warn_at:
            self._warn_at = now + WARN_SECONDS
            logger.warning("nobody takes hits in from Redis, they wait: start `email-tracking-cli ingest run`")
        return False

    def _send(self, flows: Sequence[tuple[Segment, _Flow]], now: float) -> bool:
        flows = [(segment, flow) for segment, flow in flows if flow.next < segment.size]
        if not flows:
            return False
        room = min(NODE_CHUNKS - self.underway, MAX_CHUNKS - self.stream.length())
        sent = False
        while room > 0:
            before = room
            for segment, flow in flows:
                if room > 0 and len(flow.sent) < SEGMENT_CHUNKS and (chunk := _next_chunk(segment, flow.next)):
                    if not flow.sent:
                        flow.moved_at = now
                    flow.sent.append(_Sent(self.stream.add(chunk), chunk.start, chunk.end))
                    room -= 1
            if room == before:
                break
            sent = True
        return sent


def _next_chunk(segment: Segment, position: int) -> Chunk | None:
    if position >= segment.size:
        return None
    with suppress(FileNotFoundError):  # another process was done with it first
        if chunk := read_chunk(segment.path, position, segment.size):
            return chunk
        if torn := segment.read_torn(position):
            return Chunk(segment.name, torn.start, torn.end, torn.data, torn=True)
    return None
