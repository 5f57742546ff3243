from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, connections, transaction
from hypothesis import given
from hypothesis import strategies as st

from campaigns import lifecycle, partitions, queries
from campaigns.apply import apply
from campaigns.events import EventKind, TrackingEvent
from campaigns.models import Campaign, CampaignCounters, DroppedEvents, Event, HourlyCount, Link, Message
from campaigns.recount import recount
from campaigns.rules import Refused
from campaigns.times import DAY, HOUR, from_ms, parse_moment, to_ms
from tests.campaigns.making import snapshot

on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no partitions")


def ms(text: str) -> int:
    return to_ms(parse_moment(text))


NOW = ms("2026-03-10T12:00:00Z")


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "now_ms", lambda: NOW)


def opened(message: Message, at: str | int, kind: EventKind = EventKind.OPENED, **more: Any) -> TrackingEvent:
    return TrackingEvent(kind, ms(at) if isinstance(at, str) else at, "hit", message_id=message.pk, **more)


def bounds() -> dict[str, tuple[str, str] | None]:
    def text(at: int | None) -> str:
        return "" if at is None else f"{from_ms(at):%Y-%m-%d}"

    return {each.name: None if each.is_default else (text(each.start), text(each.end)) for each in partitions.partitions()}


def where(table: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT occurred_at FROM {table} ORDER BY 1")
        return [f"{from_ms(at):%Y-%m-%d}" for (at,) in cursor.fetchall()]


# -- spans


@given(st.integers(0, ms("9000-01-01")), st.sampled_from(["day", "month"]))
def test_a_span_holds_its_moment_and_meets_the_next(moment: int, unit: partitions.Unit) -> None:
    start, end = partitions.span_of(moment, unit)
    assert start <= moment < end
    assert start % DAY == end % DAY == 0
    assert partitions.span_of(end, unit)[0] == end
    assert (end - start == DAY) if unit == "day" else (from_ms(start).day == from_ms(end).day == 1 and 28 <= (end - start) // DAY <= 31)


SPANS = st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(SPANS, st.lists(SPANS, max_size=5))
def test_what_is_taken_is_taken_away_and_nothing_else(span: tuple[int, int], taken: list[tuple[int, int]]) -> None:
    parts = partitions.without(span, taken)
    points = [point for start, end in parts for point in range(start, end)]
    assert points == [point for point in range(*span) if not any(start <= point < end for start, end in taken)]


@pytest.mark.parametrize(
    ("span", "name"),
    [
        (("2026-02-01", "2026-03-01"), "events_2026_02"),
        (("2026-02-28", "2026-03-01"), "events_2026_02_28"),
        (("2026-02-01", "2026-02-11"), "events_2026_02_01_to_2026_02_11"),
    ],
)
def test_names_say_what_is_in_them(span: tuple[str, str], name: str) -> None:
    assert partitions.name_of((ms(span[0]), ms(span[1]))) == name


# -- making


@on_postgresql
def test_events_move_from_the_default_partition_into_their_months(campaign: Campaign, message: Message) -> None:
    apply([opened(message, at) for at in ("2025-11-30T23:59:59.999Z", "2026-01-01", "2026-01-31T23:59:59.999Z", "2026-03-10T12:00:00Z")])
    before, ids = snapshot(campaign), list(Event.objects.values_list("pk", "occurred_at"))
    assert partitions.make("month", 1) == ["events_2025_11", "events_2026_01", "events_2026_03", "events_2026_04"]
    assert bounds() == {
        "events_2025_11": ("2025-11-01", "2025-12-01"),
        "events_2026_01": ("2026-01-01", "2026-02-01"),
        "events_2026_03": ("2026-03-01", "2026-04-01"),
        "events_2026_04": ("2026-04-01", "2026-05-01"),
        "events_default": None,
    }
    assert where("events_2026_01") == ["2026-01-01", "2026-01-31"]
    assert where("events_default") == []
    assert (snapshot(campaign), list(Event.objects.values_list("pk", "occurred_at"))) == (before, ids)


@on_postgresql
def test_many_events_move_a_chunk_at_a_time(campaign: Campaign, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "CHUNK", 10)
    monkeypatch.setattr(partitions, "LEFT", 3)
    apply([opened(message, NOW - number * DAY) for number in range(95)])
    before = snapshot(campaign)
    partitions.make("month", 0)
    assert (snapshot(campaign), where("events_default")) == (before, [])


@on_postgresql
def test_what_is_there_is_not_made_again_and_later_events_go_where_they_belong(message: Message) -> None:
    assert partitions.make("month", 1) == ["events_2026_03", "events_2026_04"]
    assert partitions.make("month", 1) == []
    assert partitions.make("month", 2) == ["events_2026_05"]
    apply([opened(message, at) for at in ("2026-04-01", "2026-04-02", "2026-05-01", "2026-07-01")])
    assert where("events_2026_04") == ["2026-04-01", "2026-04-02"]
    assert where("events_default") == ["2026-07-01"]
    assert recount(message.campaign_id) == {}


@on_postgresql
def test_days_follow_months_and_the_past_is_kept_by_months(message: Message) -> None:
    apply([opened(message, at) for at in ("2026-02-03", "2026-03-02", "2026-03-10", "2026-03-20")])
    assert partitions.make("day", 1) == [
        "events_2026_02", "events_2026_03_01_to_2026_03_10", "events_2026_03_10", "events_2026_03_11", "events_2026_03_20",
    ]  # fmt: skip
    assert partitions.make("month", 0) == ["events_2026_03_12_to_2026_03_20", "events_2026_03_21_to_2026_04_01"]
    assert partitions.make("day", 40)[0] == "events_2026_04_01"
    assert where("events_2026_03_01_to_2026_03_10") == ["2026-03-02"]


@on_postgresql
def test_what_a_killed_one_left_is_in_nobodys_way(message: Message) -> None:
    apply([opened(message, "2026-03-10")])
    with connection.cursor() as cursor:
        partitions._prepare(cursor, [partitions.span_of(NOW, "month")])
    assert partitions.make("month", 0) == ["events_2026_03"]
    assert where("events_2026_03") == ["2026-03-10"]


# -- dropping


@pytest.fixture
def old(campaign: Campaign, message: Message) -> Campaign:
    """Opened and clicked in two months, each of which has a partition."""
    apply([opened(message, at) for at in ("2026-01-05", "2026-01-05", "2026-03-10")])
    apply([opened(message, at, EventKind.CLICKED, url="https://example.com/") for at in ("2026-01-06", "2026-03-10")])
    if partitions.are_supported():
        partitions.make("month", 0)
    return campaign


@on_postgresql
def test_dropped_events_are_gone_and_all_numbers_stay(old: Campaign) -> None:
    before = snapshot(old)
    timeline = queries.timeline(old.pk)
    partitions.drop(partitions.droppable(ms("2026-02-15")))
    assert [event.occurred_at for event in Event.objects.all()] == [from_ms(ms("2026-03-10"))] * 2
    after = snapshot(old)
    assert len(after.pop("events")) == 2
    del before["events"]
    assert (after, queries.timeline(old.pk)) == (before, timeline)


@on_postgresql
def test_only_partitions_that_end_by_then_are_dropped(old: Campaign) -> None:
    assert partitions.droppable(ms("2026-01-31")) == []
    assert [each.name for each in partitions.droppable(ms("2026-02-01"))] == ["events_2026_01"]
    assert [each.name for each in partitions.droppable(ms("2030-01-01"))] == ["events_2026_01", "events_2026_03"]
    partitions.drop([])
    assert partitions.dropped_before() == 0


@on_postgresql
def test_recount_leaves_what_dropped_events_had_counted_and_still_puts_the_rest_right(old: Campaign) -> None:
    partitions.drop(partitions.droppable(ms("2026-02-01")))
    assert partitions.dropped_before() == ms("2026-02-01")
    assert recount(old.pk) == {}
    HourlyCount.objects.filter(hour=ms("2026-03-10"), kind=4).update(n=7)
    CampaignCounters.objects.update(opened=9)
    Link.objects.update(click_count=5)
    assert recount(old.pk) == {"opened": (9, 1), "hourly_counts.2026-03-10T00:00:00Z opened.n": (7, 1)}
    assert Link.objects.get().click_count == 5


def test_recount_checks_links_and_hours_again_that_came_after_the_drop(old: Campaign) -> None:
    DroppedEvents.objects.create(before=from_ms(ms("2026-01-06")))
    Link.objects.update(click_count=5)
    HourlyCount.objects.filter(hour=ms("2026-01-05")).update(n=8)
    assert list(recount(old.pk)) == [f"links.{Link.objects.get().pk}.click_count"]
    assert HourlyCount.objects.get(hour=ms("2026-01-05")).n == 8


@on_postgresql
def test_a_late_event_of_a_dropped_month_is_counted_and_can_have_a_partition_again(old: Campaign, message: Message) -> None:
    partitions.drop(partitions.droppable(ms("2026-02-01")))
    apply([opened(message, "2026-01-05T00:30:00Z")])
    assert HourlyCount.objects.get(hour=ms("2026-01-05"), kind=4).n == 3
    assert recount(old.pk) == {}
    assert partitions.make("month", 0) == ["events_2026_01"]


# -- by itself


@on_postgresql
def test_the_next_are_made_only_where_there_are_some(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    assert partitions.keep_ahead() == []
    partitions.make("month", 0)
    assert partitions.keep_ahead() == ["events_2026_04", "events_2026_05"]
    assert partitions.keep_ahead() == []
    monkeypatch.setattr(partitions, "now_ms", lambda: NOW + 31 * DAY)
    assert partitions.keep_ahead() == ["events_2026_06"]


@on_postgresql
def test_days_are_followed_by_days(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    partitions.make("day", 2)
    assert len(partitions.keep_ahead()) == partitions.AHEAD["day"] - 2
    assert list(bounds())[-2] == "events_2026_03_17"


@on_postgresql
def test_a_full_default_partition_is_left_to_a_person(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    partitions.make("month", 0)
    monkeypatch.setattr(partitions, "CHUNK", 2)
    apply([opened(message, "2020-01-01")] * 3)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE events_default")
    assert partitions.keep_ahead() == []


@pytest.mark.skipif(connection.vendor == "postgresql", reason="of SQLite")
def test_sqlite_has_none(db: None) -> None:
    assert not partitions.are_supported()
    assert partitions.keep_ahead() == []
    assert partitions.may_delete_events()


# -- beside others


@pytest.fixture
def committed(transactional_db: None) -> Iterator[Message]:
    """A message that other connections see; partitions go with it."""
    campaign = lifecycle.create_campaign("beside others")
    yield lifecycle.create_message("user@example.com", campaign.pk)
    with connection.cursor() as cursor:
        for each in partitions.partitions():
            if not each.is_default:
                cursor.execute(f"DROP TABLE {each.name}")


@pytest.fixture
def beside() -> Iterator[Callable[[Callable[[], object]], threading.Thread]]:
    """Runs something in a thread with a connection of its own; what fails there fails the test."""
    threads: list[threading.Thread] = []
    failures: list[BaseException] = []

    def start(work: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as failure:
                failures.append(failure)
            finally:
                connections.close_all()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(30)
    assert failures == []


@on_postgresql
def test_ingestion_and_reads_go_on(committed: Message, beside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "CHUNK", 20)
    monkeypatch.setattr(partitions, "LEFT", 10)
    apply([opened(committed, NOW - number * HOUR) for number in range(500)])
    applied, seen, done = [500], [], threading.Event()

    def ingest() -> None:
        while not done.is_set():
            apply([opened(committed, NOW - number * DAY) for number in range(10)])
            applied[0] += 10

    def read() -> None:
        while not done.is_set():
            seen.append(Event.objects.count())

    others = [beside(ingest), beside(read)]
    try:
        made = partitions.make("month", 1)
        for day in range(5):
            partitions.make("day", 60 + day)
    finally:
        done.set()
    for other in others:
        other.join(30)
    assert "events_2026_02" in made
    assert Event.objects.count() == applied[0] == Message.objects.get().open_count
    assert len(set(Event.objects.values_list("pk", flat=True))) == applied[0]
    assert seen == sorted(seen)
    assert seen[0] >= 500


@on_postgresql
def test_two_at_once_make_them_once(committed: Message, beside: Any) -> None:
    apply([opened(committed, "2026-01-05")])
    made: list[list[str]] = []
    for thread in [beside(lambda: made.append(partitions.make("month", 2))) for _ in range(3)]:
        thread.join(30)
    assert sorted(map(len, made)) == [0, 0, 4]


@on_postgresql
def test_who_waits_too_long_for_a_long_transaction_says_so_and_changes_nothing(
    committed: Message, beside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "TRIES", 2)
    monkeypatch.setattr(partitions, "LOCK_WAIT", "20ms")
    apply([opened(committed, "2026-01-05")])
    reads, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Event.objects.count()
            reads.set()
            done.wait(30)

    beside(hold)
    assert reads.wait(30)
    try:
        with pytest.raises(Refused, match="long transaction"):
            partitions.make("month", 0)
        assert bounds() == {"events_default": None}
        assert Event.objects.count() == 1
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_class WHERE relname IN ('events_making', 'events_2026_01')")
            assert cursor.fetchone() == (0,)
    finally:
        done.set()


@on_postgresql
def test_deletes_wait_until_events_have_moved(committed: Message, beside: Any) -> None:
    apply([opened(committed, "2026-01-05")])
    copying, done = threading.Event(), threading.Event()

    def hold() -> None:
        with partitions._alone():
            copying.set()
            done.wait(30)

    thread = beside(hold)
    assert copying.wait(30)
    lifecycle.delete_campaign(Campaign.objects.get())
    assert (Event.objects.count(), Message.objects.count()) == (1, 1)
    assert partitions.make("month", 0, wait=False) == []
    done.set()
    thread.join(30)
    assert sum(lifecycle.purge_deleted()) == 1
    assert (Event.objects.count(), Message.objects.count()) == (0, 0)
