from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

if not os.environ.get("CI"):
    pytest.importorskip("redis", reason="the package redis is missing (pip install -e '.[redis]')")

from tests.services import RedisServer, redis_server
from tracking.spool import reader, ship_redis, stream
from tracking.spool.lines import MAX_LINE
from tracking.spool.ship_redis import Shipper
from tracking.spool.stream import BadChunk, Chunk, Stream, read_chunk
from tracking.spool.writer import SpoolWriter

__all__ = ["redis_server"]


# -- chunks


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")), min_size=1), st.integers(0, 1000))
def test_a_chunk_comes_out_of_redis_as_the_lines_it_was_made_of(lines: list[bytes], start: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    chunk = Chunk("1.jsonl", start, start + len(data), data)
    fields = {name.encode(): value if isinstance(value, bytes) else str(value).encode() for name, value in chunk.fields("node").items()}
    found = Chunk.of(fields)
    assert found == chunk
    assert [line.data for line in found.lines()] == lines
    assert [found.lines()[0].start, *(line.end for line in found.lines())] == [
        start + len(b"\n".join(lines[:n])) + (n > 0) for n in range(len(lines) + 1)
    ]


@given(st.lists(st.integers(0, 300_000), max_size=6), st.data())
def test_chunks_read_one_after_the_other_are_the_segment(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("spool") / "1.jsonl"
    path.write_bytes(b"".join(b"x" * size + b"\n" for size in sizes))
    size, position, ends = path.stat().st_size, 0, []
    while chunk := read_chunk(path, position, size):
        assert (chunk.start, len(chunk.data) <= stream.CHUNK_BYTES) == (position, True)
        ends += [line.end for line in chunk.lines()]
        position = chunk.end
    assert position == size
    assert ends == [line.end for line in reader.read_lines(path, 0, size, 100)]


@pytest.mark.parametrize(
    "fields",
    [
        {}, {b"segment": b"a\0b"}, {b"segment": b"a" * 81}, {b"segment": b"\xff"}, {b"from": b"-1"}, {b"from": b"one"}, {b"to": b"0"},
        {b"lines": b""}, {b"lines": b"longer than said\n"},
    ],
)  # fmt: skip
def test_what_no_shipper_wrote_is_refused(fields: dict[bytes, bytes]) -> None:
    whole = {b"segment": b"1.jsonl", b"from": b"0", b"to": b"2", b"lines": b"a\n"}
    assert Chunk.of(whole).lines()[0].data == b"a"
    with pytest.raises(BadChunk):
        Chunk.of({**whole, **fields} if fields else {})


# -- shipping


class MemoryStream:
    """A stream that can lose what it holds."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Chunk] = {}
        self.number = 0

    def length(self) -> int:
        return len(self.entries)

    def add(self, chunk: Chunk) -> bytes:
        self.number += 1
        self.entries[b"%d" % self.number] = chunk
        return b"%d" % self.number

    def has(self, entry: bytes) -> bool:
        return entry in self.entries

    def discard(self, entries: list[bytes]) -> None:
        for entry in entries:
            self.entries.pop(entry, None)


class Node:
    """A machine's spool and its shipper, with a clock of ours and the database's positions in our hand."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.writer, self.stream, self.now = folder, SpoolWriter(folder), MemoryStream(), 0.0
        self.shipper = Shipper(self.stream)  # type: ignore[arg-type]
        self.positions: dict[str, int] = {}
        monkeypatch.setattr(ship_redis.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(ship_redis, "read_chunk", lambda path, position, upto: read_chunk(path, position, min(upto, position + 8)))

    def step(self, *, away: bool = False) -> bool:
        segments = reader.segments(self.folder)
        return self.shipper.step({segment: None if away else self.positions.get(segment.name, 0) for segment in segments})

    @property
    def sent(self) -> list[tuple[int, int]]:
        return [(chunk.start, chunk.end) for chunk in self.stream.entries.values()]

    @property
    def segment(self) -> str:
        return reader.segments(self.folder)[0].name


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def test_a_segment_is_sent_once_and_in_order(node: Node) -> None:
    node.writer.append_many([b"one\n", b"two\n", b"six\n"])
    assert node.step()
    assert node.sent == [(0, 8), (8, 12)]
    assert not node.step()
    node.writer.append(b"ten\n")
    assert node.step()
    assert node.sent == [(0, 8), (8, 12), (12, 16)]


def test_what_the_stream_lost_is_sent_again_from_where_the_database_is(node: Node) -> None:
    node.writer.append_many([b"one\n"] * 6)
    node.step()
    node.positions[node.segment] = 8
    node.step()
    node.stream.entries.clear()
    node.now += ship_redis.STUCK_SECONDS - 0.1
    assert not node.step(), "it is not yet known to be lost"
    node.now += 0.2
    assert node.step()
    assert node.sent == [(8, 16), (16, 24)]


def test_a_tail_that_was_lost_leaves_nothing_twice_in_the_stream(node: Node) -> None:
    node.writer.append_many([b"one\n"] * 6)
    node.step()
    del node.stream.entries[b"1"]
    node.now += ship_redis.STUCK_SECONDS
    assert node.step()
    assert node.sent == [(0, 8), (8, 16), (16, 24)]


def test_what_only_waits_is_not_sent_again_and_it_is_said_that_nobody_takes_it(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.writer.append_many([b"one\n"] * 6)
    node.step()
    for _ in range(5):
        node.now += ship_redis.IDLE_SECONDS
        assert not node.step()
    assert len(node.sent) == 3
    assert 1 < len(caplog.records) < 5
    assert "ingest run" in caplog.records[0].getMessage()
    node.now += ship_redis.ABANDONED_SECONDS
    assert node.step()
    assert (len(node.sent), b"1" in node.stream.entries) == (3, False)


def test_a_database_that_was_put_back_is_sent_what_it_lacks(node: Node) -> None:
    node.writer.append_many([b"one\n"] * 6)
    node.step()
    node.positions[node.segment] = 16
    node.step()
    node.positions[node.segment] = 4
    assert node.step()
    assert node.sent[-3:] == [(4, 12), (12, 20), (20, 24)]


def test_what_a_read_applied_by_itself_is_not_waited_for(node: Node) -> None:
    node.writer.append_many([b"one\n"] * 40)
    node.step()
    assert node.shipper.underway == ship_redis.SEGMENT_CHUNKS
    node.positions[node.segment] = 160
    assert not node.step()
    assert node.shipper.underway == 0


def test_what_is_on_its_way_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(6):
        node.writer.append_many([b"one\n"] * 100)
        node.writer.close()
    node.step()
    node.step()
    assert node.stream.length() == ship_redis.NODE_CHUNKS
    by_segment = [chunk.segment for chunk in node.stream.entries.values()]
    assert max(by_segment.count(name) for name in by_segment) <= ship_redis.SEGMENT_CHUNKS
    assert len(set(by_segment)) == 6, "no segment keeps the others waiting"
    monkeypatch.setattr(ship_redis, "MAX_CHUNKS", ship_redis.NODE_CHUNKS + 3)
    other = Shipper(node.stream)  # type: ignore[arg-type]
    other.step(dict.fromkeys(reader.segments(node.folder), 0))
    assert node.stream.length() == ship_redis.NODE_CHUNKS + 3


def test_with_the_database_away_known_segments_go_on_and_nothing_is_taken_for_lost(node: Node) -> None:
    node.writer.append(b"one\n")
    assert not node.step(away=True), "without a position in the database no chunk of it would be applied"
    node.step()
    node.stream.entries.clear()
    node.writer.append(b"two\n")
    assert node.step(away=True)
    node.now += 100
    assert not node.step(away=True)
    assert node.sent == [(4, 8)]
    node.step()
    node.now += ship_redis.STUCK_SECONDS
    assert node.step()
    assert node.sent == [(0, 8)]


def test_the_torn_tail_of_a_dead_writer_is_sent_as_such(node: Node) -> None:
    node.writer.append_many([b"one\n", b"tw"])
    node.step()
    assert node.sent == [(0, 4)], "its writer lives and may finish it"
    node.writer.close()
    assert node.step()
    last = [*node.stream.entries.values()][-1]
    assert (last.start, last.end, last.data, last.torn) == (4, 6, b"tw", True)


def test_a_line_that_is_too_long_is_sent_cut(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    path.write_bytes(b"x" * 1_000_000 + b"\n" + b"one\n")
    chunk = read_chunk(path, 0, path.stat().st_size)
    assert chunk
    assert (chunk.end, MAX_LINE < len(chunk.data) < 2 * MAX_LINE) == (1_000_001, True)
    [line] = chunk.lines()
    assert (line.start, line.end) == (0, 1_000_001)
    after = read_chunk(path, chunk.end, path.stat().st_size)
    assert after
    assert after.data == b"one\n"


# -- the stream in Redis


def chunk(start: int, segment: str = "1.jsonl") -> Chunk:
    return Chunk(segment, start, start + 4, b"one\n")


def test_each_chunk_goes_to_one_consumer_and_is_gone_when_finished(redis_server: RedisServer) -> None:
    one, other = Stream(redis_server.url), Stream(redis_server.url)
    assert one.read(10) == [], "the first makes the group"
    for start in (0, 4, 8):
        one.add(chunk(start))
    taken = one.read(2)
    assert [each.start for _, each in taken] == [0, 4]
    assert [each.start for _, each in other.read(2)] == [8]
    assert (one.length(), one.oldest() < 10) == (3, True)
    one.finish([entry for entry, _ in taken])
    assert (other.length(), one.read(2), one.has(taken[0][0])) == (1, [], False)


def test_what_a_dead_consumer_had_is_claimed_and_the_dead_are_forgotten(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CLAIM_IDLE", 0)
    dead, living = Stream(redis_server.url), Stream(redis_server.url)
    assert (living.claim(10), dead.read(10)) == ([], [])
    living.add(chunk(0))
    deleted = living.add(chunk(4))
    assert len(dead.read(10)) == 2
    living.discard([deleted])
    monkeypatch.setattr(stream, "GONE_IDLE", -1)
    [(entry, found)] = living.claim(10)
    assert found.start == 0
    living.finish([entry])
    assert [each["name"] for each in living.redis.xinfo_consumers(stream.STREAM, stream.GROUP)] in ([], [living.consumer.encode()])


def test_a_flushed_redis_is_as_one_that_was_always_empty(redis_server: RedisServer) -> None:
    one = Stream(redis_server.url)
    one.read(1)
    one.redis.flushall()
    one.add(chunk(0))
    assert one.read(1) == []
    assert len(one.read(1)) == 1, "what was sent before the group was made is read too"


def test_an_entry_that_is_no_chunk_is_dropped(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    one = Stream(redis_server.url)
    one.read(1)
    one.redis.xadd(stream.STREAM, {"hello": "world"})
    one.add(chunk(0))
    assert [each for _, each in one.read(10)] == [chunk(0)]
    assert one.length() == 1
    assert "no chunk" in caplog.text


def test_a_redis_that_is_away_is_said_once_in_a_while_and_not_asked_at_once_again(redis_server: RedisServer, caplog, monkeypatch) -> None:
    one = Stream(redis_server.url)
    asked = []

    def work() -> bool:
        asked.append(1)
        return one.length() == 0

    assert one.attempt(work)
    redis_server.kill()
    assert not one.attempt(work)
    assert not one.attempt(work)
    assert len(asked) == 2
    monkeypatch.setattr(stream, "RETRY_SECONDS", 0.0)
    one._try_at = 0.0
    for _ in range(3):
        assert not one.attempt(work)
    assert len(asked) == 5
    assert [record.getMessage()[:13] for record in caplog.records] == ["Redis is away"]
    redis_server.start()
    assert one.attempt(work)
