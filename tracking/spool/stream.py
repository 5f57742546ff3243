"""Chunks of spools in a Redis Stream, between machines that answer hits and machines that take them in. Pure.

Redis is a way here, and no place to keep anything: a segment stays in its machine's spool until the database has applied it,
so whatever Redis loses is sent again. Needs Redis 6.2 or later.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis, RedisError, ResponseError
from redis.backoff import NoBackoff
from redis.retry import Retry

from tracking.spool.reader import Line, read_lines

logger = logging.getLogger("tracking.spool")

STREAM, GROUP = "tracking:spool", "ingest"
#: About 2,000 hits; more than the longest line.
CHUNK_BYTES = 262_144
#: Chunks in the stream, of all machines together. Whoever finds so many sends no more: 128 MB.
MAX_CHUNKS = 512

#: What a consumer took and did not finish for so long is another's, in milliseconds. A chunk takes a tenth of a second.
CLAIM_IDLE = 10_000
#: A consumer that has nothing and asked for nothing for so long is gone, in milliseconds.
GONE_IDLE = 3_600_000

TIMEOUT_SECONDS = 3.0
#: A Redis that does not answer is tried again so much later, and spoken of so often.
RETRY_SECONDS = 1.0
WARN_SECONDS = 60.0


_NAME = re.compile(r"[A-Za-z0-9._-]{1,80}")


class BadChunk(ValueError):
    """An entry of the stream that no shipper of ours wrote."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes of a segment from `start` to `end`: whole lines, or one that is cut because it is too long or `torn`."""

    segment: str
    start: int
    end: int
    data: bytes
    torn: bool = False  # the last line of a writer that died over it

    def lines(self) -> list[Line]:
        if not self.data.endswith(b"\n"):
            return [Line(self.start, self.end, self.data)]
        lines, position = [], self.start
        for data in self.data[:-1].split(b"\n"):
            lines.append(Line(position, position + len(data) + 1, data))
            position += len(data) + 1
        return lines

    def fields(self, node: str) -> dict[str, Any]:
        fields = {"node": node, "segment": self.segment, "from": self.start, "to": self.end, "lines": self.data}
        return {**fields, "torn": 1} if self.torn else fields

    @classmethod
    def of(cls, fields: dict[bytes, bytes]) -> Chunk:
        """Raises BadChunk."""
        try:
            start, end = int(fields[b"from"]), int(fields[b"to"])
            chunk = cls(fields[b"segment"].decode(), start, end, fields[b"lines"], b"torn" in fields)
        except (KeyError, ValueError) as error:
            raise BadChunk(f"{type(error).__name__}: {error}") from None
        whole = len(chunk.data) == end - start or not chunk.data.endswith(b"\n")
        if not (whole and chunk.data and 0 <= start < end and _NAME.fullmatch(chunk.segment)):
            raise BadChunk(f"{len(chunk.data)} bytes from {start} to {end} of {chunk.segment!r}")
        return chunk


def read_chunk(path: Path, position: int, upto: int) -> Chunk | None:
    """Whole lines from `position` on, of those that begin before `upto`; None where there are none. Raises FileNotFoundError."""
    with path.open("rb") as file:
        file.seek(position)
        data = file.read(min(CHUNK_BYTES, upto - position))
    if end := data.rfind(b"\n") + 1:
        return Chunk(path.name, position, position + end, data[:end])
    for line in read_lines(path, position, upto, 1):  # it is too long, and goes to the dead letters, which keep its beginning
        return Chunk(path.name, position, line.end, line.data)
    return None


class Stream:
    """The stream, as both ends use it. Whatever it is asked raises RedisError when Redis is away, or says no."""

    def __init__(self, url: str, timeout: float = TIMEOUT_SECONDS) -> None:
        # RESP2 looks the same in all versions of the client; tries and pauses are ours, see `attempt`
        self.redis: Any = Redis.from_url(
            url, protocol=2, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
        self.node = socket.gethostname()
        self.consumer = f"{self.node}-{os.getpid()}-{time.time_ns():x}"
        self._try_at = self._warn_at = float("-inf")
        self._claim_from = b"0-0"

    def attempt(self, work: Callable[[], bool]) -> bool:
        """Do something with the stream. False, and a line in the log now and then, while Redis is away."""
        if time.monotonic() < self._try_at:
            return False
        try:
            return work()
        except RedisError as error:
            now = time.monotonic()
            self._try_at = now + RETRY_SECONDS
            if now >= self._warn_at:
                self._warn_at = now + WARN_SECONDS
                logger.warning("Redis is away, hits wait in the spools: %s", error)
            return False

    def length(self) -> int:
        return int(self.redis.xlen(STREAM))

    def oldest(self) -> float:
        """Seconds since the oldest chunk was sent, by the clock of Redis; 0 when there is none."""
        entries = self.redis.xrange(STREAM, count=1)
        if not entries:
            return 0.0
        seconds, micros = self.redis.time()
        sent_at = int(entries[0][0].partition(b"-")[0]) / 1000
        return float(max(0.0, round(seconds + micros / 1e6 - sent_at, 3)))

    def close(self) -> None:
        self.redis.close()

    # -- the shipping end

    def add(self, chunk: Chunk) -> bytes:
        """Its id in the stream."""
        return bytes(self.redis.xadd(STREAM, chunk.fields(self.node)))

    def has(self, entry: bytes) -> bool:
        return bool(self.redis.xrange(STREAM, entry, entry))

    def discard(self, entries: Iterable[bytes]) -> None:
        self.redis.xdel(STREAM, *entries)

    # -- the consuming end

    def read(self, most: int) -> list[tuple[bytes, Chunk]]:
        """New chunks for this consumer, with their ids. They are its own until it finishes them, or is silent for too long."""
        try:
            answer = self.redis.xreadgroup(GROUP, self.consumer, {STREAM: ">"}, count=most)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._make_group()  # the first to come, or Redis was flushed
            return []
        return self._chunks(answer[0][1]) if answer else []

    def claim(self, most: int) -> list[tuple[bytes, Chunk]]:
        """Chunks that a consumer took and did not finish, because it died. The next call looks further."""
        try:
            answer = self.redis.xautoclaim(STREAM, GROUP, self.consumer, CLAIM_IDLE, self._claim_from, count=most)
            for consumer in self.redis.xinfo_consumers(STREAM, GROUP):
                if consumer["pending"] == 0 and consumer["idle"] > GONE_IDLE:
                    self.redis.xgroup_delconsumer(STREAM, GROUP, consumer["name"])
        except ResponseError as error:
            if "NOGROUP" not in str(error) and "no such key" not in str(error):
                raise
            return []
        self._claim_from = answer[0]
        return self._chunks(answer[1])

    def finish(self, entries: Sequence[bytes]) -> None:
        """Take chunks out of the stream, for good."""
        if entries:
            with self.redis.pipeline(transaction=True) as both:  # one that is acknowledged and not deleted would stay for ever
                both.xack(STREAM, GROUP, *entries)
                both.xdel(STREAM, *entries)
                both.execute()

    def leave(self) -> None:
        """Take this consumer out of the group. It must have finished what it took: what it has is lost with it."""
        self.redis.xgroup_delconsumer(STREAM, GROUP, self.consumer)

    def _make_group(self) -> None:
        try:
            self.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # another was first
                raise

    def _chunks(self, entries: list[tuple[bytes | None, dict[bytes, bytes] | None]]) -> list[tuple[bytes, Chunk]]:
        found, bad = [], []
        for entry, fields in entries:
            if entry is None or fields is None:  # Redis 6.2 says so of claimed entries that were deleted
                continue
            try:
                found.append((entry, Chunk.of(fields)))
            except BadChunk as error:
                logger.warning("an entry of %s is no chunk of a spool and is dropped: %s", STREAM, error)
                bad.append(entry)
        self.finish(bad)
        return found


def stream_status(url: str) -> dict[str, Any]:
    """`chunks` in the stream, of all machines, and `oldest_seconds` since the oldest was sent; both None while Redis is away."""
    stream = Stream(url, timeout=1.0)
    try:
        return {"chunks": stream.length(), "oldest_seconds": stream.oldest()}
    except RedisError:
        return {"chunks": None, "oldest_seconds": None}
    finally:
        stream.close()
