"""Hits that come through a Redis Stream: whatever is delivered, and how often, the database has each once."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from campaigns.events import EventKind, now_ms
from campaigns.models import Event, Message

if not os.environ.get("CI"):
    pytest.importorskip("redis", reason="the package redis is missing (pip install -e '.[redis]')")

from tests.services import RedisServer, redis_server
from tests.tracking.running import until
from tracking.ingest import consume
from tracking.ingest import drain as drain_module
from tracking.ingest.consume import Consuming
from tracking.ingest.drain import apply_chunk, drain, forget_positions, positions_to_ship, tidy
from tracking.ingest.ship import Shipping
from tracking.ingest.status import ingest_status
from tracking.models import DeadLetter, SpoolPosition
from tracking.spool import reader, ship_redis, stream, writer
from tracking.spool.lines import hit_line
from tracking.spool.stream import Chunk

__all__ = ["redis_server"]
pytestmark = pytest.mark.django_db

HIT = hit_line(EventKind.OPENED, "uuid-token", now_ms())
LENGTH = len(HIT)


def append(*lines: bytes) -> None:
    assert writer.process_writer(settings.CONF.spool_dir).append_many(lines)


def lines(first: int, upto: int) -> list[reader.Line]:
    """Hits number `first` to before `upto` of a segment."""
    return Chunk("far.jsonl", first * LENGTH, upto * LENGTH, HIT * (upto - first)).lines()


def apply_hits(first: int, upto: int) -> int | None:
    position = apply_chunk("far.jsonl", lines(first, upto))
    return None if position is None else position // LENGTH


@pytest.fixture
def far(message: Message) -> None:
    """A segment of another machine, of which nothing is applied."""
    SpoolPosition.objects.create(segment="far.jsonl")


# -- where a chunk lies


def test_a_chunk_is_applied_where_the_position_lies_in_it(far: None) -> None:
    assert apply_hits(0, 3) == 3
    assert apply_hits(0, 2) == 3, "what is below is skipped"
    assert apply_hits(1, 3) == 3
    assert Event.objects.count() == 3
    assert apply_hits(2, 5) == 5, "of what overlaps the rest is applied"
    assert Event.objects.count() == 5
    assert apply_hits(6, 8) == 5, "beyond a gap nothing is"
    assert Event.objects.count() == 5
    assert apply_hits(5, 6) == 6
    assert apply_hits(6, 8) == 8
    assert Event.objects.count() == 8


def test_any_order_and_number_of_deliveries_applies_each_hit_once(far: None) -> None:
    for seed in range(6):
        chance = random.Random(seed)
        before = Event.objects.count()
        SpoolPosition.objects.filter(pk="far.jsonl").update(position=0)
        cuts = sorted({0, 20, *(chance.randrange(1, 20) for _ in range(5))})
        others = sorted({0, 20, *(chance.randrange(1, 20) for _ in range(5))})  # as another shipper cut it
        deliveries = [*pairwise(cuts), *pairwise(others)] * 2
        for _ in range(14):  # a chunk beyond a gap waits and is tried again
            chance.shuffle(deliveries)
            for first, upto in deliveries:
                apply_hits(first, upto)
        assert Event.objects.count() - before == 20, seed


def test_a_chunk_of_a_segment_without_a_position_is_nobodys(message: Message) -> None:
    assert apply_hits(0, 3) is None
    assert not Event.objects.exists()
    assert not SpoolPosition.objects.exists()


def test_a_bad_line_in_a_chunk_goes_alone_to_the_dead_letters(far: None, monkeypatch: pytest.MonkeyPatch) -> None:
    really = drain_module.apply

    def poisoned(events):
        if any(event.token == "poison" for event in events):
            raise ValueError("cannot be")
        return really(events)

    monkeypatch.setattr(drain_module, "apply", poisoned)
    data = HIT * 5 + hit_line(EventKind.OPENED, "poison", 1) + b"garbage\n" + HIT * 5
    chunk = Chunk("far.jsonl", 0, len(data), data)
    assert apply_chunk("far.jsonl", chunk.lines()) == len(data)
    assert (Event.objects.count(), DeadLetter.objects.count()) == (10, 2)


def test_a_failure_in_the_midst_of_a_chunk_applies_nothing_of_it(far: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_module, "count", _away)
    with pytest.raises(OperationalError):
        apply_hits(0, 3)
    monkeypatch.undo()
    assert not Event.objects.exists()
    assert apply_hits(0, 3) == 3
    assert Event.objects.count() == 3


def _away(*_: object, **__: object) -> None:
    raise OperationalError("away")


# -- both ends


class Road:
    """One machine that ships and some that take in, in this process."""

    def __init__(self, redis: RedisServer) -> None:
        self.redis = redis
        self.shipping, self.consuming = Shipping(redis.url), Consuming(redis.url)
        self.consuming.stream.read(1)  # makes the group

    def go(self) -> None:
        self.shipping.step()
        self.consuming.stream.attempt(self.consuming._take)
        self.consuming._apply()
        self.consuming.stream.attempt(self.consuming._finish)

    @property
    def length(self) -> int:
        return self.shipping.stream.length()


@pytest.fixture
def road(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    monkeypatch.setattr(stream, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(ship_redis, "STUCK_SECONDS", 0.0)
    road = Road(redis_server)
    yield road
    road.shipping.stream.close()
    road.consuming.stream.close()


def test_what_is_shipped_is_taken_in_once_and_leaves_the_stream(road: Road, message: Message) -> None:
    append(HIT, HIT)
    road.go()
    append(HIT, b"garbage\n")
    road.go()
    assert (Event.objects.count(), DeadLetter.objects.count(), road.length) == (3, 1, 0)
    status = ingest_status()
    assert (status["pending"], status["lag_seconds"]) == (0, 0.0)
    assert positions_to_ship() == {}


def test_a_segment_stays_until_it_is_applied_and_is_then_with_the_applied_ones(road: Road, message: Message) -> None:
    append(HIT, HIT[:-9])
    writer.close_writers()
    road.shipping.step()
    tidy()
    assert len(reader.segments(settings.CONF.spool_dir)) == 1
    assert ingest_status()["pending"] == 2 * LENGTH - 9
    road.go()
    road.shipping.step()
    assert reader.segments(settings.CONF.spool_dir) == []
    assert len(reader.applied_segments(settings.CONF.spool_dir)) == 1
    assert Event.objects.count() == 1
    assert "middle" in DeadLetter.objects.get().error


def test_a_read_that_drains_what_is_on_its_way_counts_nothing_twice(road: Road, message: Message) -> None:
    append(HIT, HIT)
    road.shipping.step()
    forget_positions()
    assert drain(0.25) == 0
    append(HIT)
    road.go()
    assert (Event.objects.count(), road.length) == (3, 0)


def test_a_flushed_redis_costs_no_hit(road: Road, message: Message) -> None:
    append(HIT, HIT)
    road.shipping.step()
    road.consuming.stream.redis.flushall()
    for _ in range(3):
        road.go()
    assert (Event.objects.count(), road.length) == (2, 0)


def test_a_redis_that_is_away_costs_no_hit(road: Road, message: Message, caplog: pytest.LogCaptureFixture) -> None:
    road.redis.kill()
    append(HIT, HIT)
    for _ in range(3):
        road.go()
    assert not Event.objects.exists()
    assert len([record for record in caplog.records if "Redis is away" in record.getMessage()]) == 2, "each end says it once"
    road.redis.start()
    for _ in range(3):
        road.go()
    assert (Event.objects.count(), road.length) == (2, 0)


def test_a_new_shipper_sends_again_what_it_cannot_know_of(road: Road, message: Message) -> None:
    append(HIT, HIT)
    road.shipping.step()
    again = Shipping(road.redis.url)
    append(HIT)
    again.step()
    assert road.length == 2
    road.go()
    assert (Event.objects.count(), road.length) == (3, 0)


def test_with_the_database_away_a_chunk_waits(road: Road, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    append(HIT)
    monkeypatch.setattr(drain_module, "count", _away)
    with pytest.raises(OperationalError):
        road.go()
    assert road.length == 1
    monkeypatch.undo()
    monkeypatch.setattr(ship_redis, "STUCK_SECONDS", 0.0)
    road.go()
    assert (Event.objects.count(), road.length) == (1, 0)


def test_a_chunk_beyond_a_gap_waits_and_is_let_go_when_the_gap_stays(road: Road, far: None, monkeypatch: pytest.MonkeyPatch) -> None:
    road.shipping.stream.add(Chunk("far.jsonl", LENGTH, 2 * LENGTH, HIT))
    append(HIT)
    road.go()
    assert (Event.objects.count(), road.length) == (1, 1), "others are not kept waiting"
    monkeypatch.setattr(consume, "HELD_SECONDS", 0.0)
    road.go()
    assert (Event.objects.count(), road.length) == (1, 0)


def test_chunks_that_a_dead_consumer_took_are_claimed(road: Road, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    append(HIT)
    road.shipping.step()
    dead = Consuming(road.redis.url)
    assert len(dead.stream.read(5)) == 1
    road.go()
    assert not Event.objects.exists()
    monkeypatch.setattr(stream, "CLAIM_IDLE", 0)
    road.consuming._claim_at = 0.0
    road.go()
    assert (Event.objects.count(), road.length) == (1, 0)


def test_a_restored_database_is_sent_what_it_lacks(road: Road, message: Message) -> None:
    append(HIT, HIT)
    writer.close_writers()
    for _ in range(3):
        road.go()
    assert len(reader.applied_segments(settings.CONF.spool_dir)) == 1
    Event.objects.filter(pk=Event.objects.latest("id").pk).delete()
    SpoolPosition.objects.update(position=LENGTH)
    tidy()
    for _ in range(2):
        road.go()
    assert (Event.objects.count(), road.length) == (2, 0)


def test_the_end_of_a_shipping_machine_leaves_nothing_behind(road: Road, message: Message) -> None:
    append(HIT, HIT)
    writer.close_writers()
    road.shipping.finish()
    assert Event.objects.count() == 2
    assert reader.segments(settings.CONF.spool_dir) == []


def test_the_end_of_a_consumer_takes_it_out_of_the_group(road: Road, message: Message) -> None:
    append(HIT)
    for _ in range(2):
        road.go()
    road.consuming.finish()
    assert road.shipping.stream.redis.xinfo_consumers(stream.STREAM, stream.GROUP) == []


def test_who_takes_in_drains_a_spool_of_its_own_too(road: Road, message: Message) -> None:
    append(HIT)
    assert road.consuming.step()
    assert not road.consuming.step()
    assert Event.objects.count() == 1


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_consumers_and_a_read_that_race_take_each_hit_once(road: Road, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship_redis, "STUCK_SECONDS", 0.5)
    monkeypatch.setattr(
        ship_redis, "read_chunk", lambda path, position, upto: stream.read_chunk(path, position, min(upto, position + 9 * LENGTH))
    )
    stop = threading.Event()
    raised: list[BaseException] = []
    chance = random.Random(1)

    def again_and_again(work: Callable[[], object]) -> None:
        try:
            while not stop.is_set():
                try:
                    work()
                except OperationalError:  # SQLite is locked, PostgreSQL found a deadlock
                    stop.wait(0.01)
                stop.wait(0.005)
        except BaseException as error:
            raised.append(error)
        finally:
            connection.close()

    monkeypatch.setattr(consume, "drain_once", lambda: False)  # that is the read's below
    work = [road.shipping.step, *(Consuming(road.redis.url).step for _ in range(2))]
    threads = [threading.Thread(target=again_and_again, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            append(*[HIT] * 20)
            if chance.random() < 0.1:
                drain(0.25)
            time.sleep(0.01)
        until(lambda: Event.objects.count() >= 2000, 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert raised == []
    message.refresh_from_db()
    assert (message.open_count, Event.objects.count()) == (2000, 2000)


def test_a_chunk_goes_into_a_database_that_another_consumer_is_at(far: None, tmp_path: Path) -> None:
    """As if between our look and our lock another had applied it: the look is under the lock."""
    assert apply_hits(0, 2) == 2
    drain_module._positions["far.jsonl"] = 0  # what this process remembers is not asked
    assert apply_hits(0, 2) == 2
    assert Event.objects.count() == 2
