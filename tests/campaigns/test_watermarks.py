from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from campaigns import queries, watermarks
from campaigns.apply import apply
from campaigns.choices import Kind
from campaigns.events import EventKind, TrackingEvent
from campaigns.models import Campaign, Event, EventWatermark, Message
from campaigns.times import HOUR, from_ms, iso
from tests.campaigns.calls import Api
from tests.campaigns.making import START

pytestmark = pytest.mark.django_db
on_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has an index for it")


@pytest.fixture(autouse=True)
def _close_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watermarks, "SPACING", 5)


def happen(message: Message, *hours: int) -> None:
    """Events at these hours, stored in this order."""
    apply([TrackingEvent(EventKind.OPENED, START + hour * HOUR, "hit", message_id=message.pk) for hour in hours])


@pytest.fixture
def ids(message: Message) -> Callable[[], list[int]]:
    """Ids of the events stored in the test, which begin anywhere."""
    happen(message, 0)
    first = Event.objects.get().pk
    Event.objects.all()._raw_delete("default")
    EventWatermark.objects.create(event_id=first, latest=from_ms(0))
    return lambda: list(Event.objects.order_by("pk").values_list("pk", flat=True))


@on_sqlite
def test_a_watermark_is_set_behind_every_so_many_events_and_is_never_lower_than_the_one_before(ids: Any, message: Message) -> None:
    happen(message, 1, 2, 9, 4, 5)
    happen(message, 6, 7, 1, 2)
    assert watermarks.keep_up() == 1
    happen(message, 3, 30)
    assert watermarks.keep_up() == 1
    assert watermarks.keep_up() == 0
    marks = dict(EventWatermark.objects.order_by("pk")[1:].values_list("event_id", "latest"))
    assert marks == {ids()[4]: from_ms(START + 9 * HOUR), ids()[9]: from_ms(START + 9 * HOUR)}
    assert watermarks.id_before(START + 9 * HOUR) < ids()[0]
    assert watermarks.id_before(START + 9 * HOUR + 1) == ids()[9]


@on_sqlite
@hypothesis_settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=8), max_size=8), since=st.integers(0, 21))
def test_no_event_is_missed_in_whatever_order_they_came(ids: Any, message: Message, batches: list[list[int]], since: int) -> None:
    for hours in batches:
        happen(message, *hours)
        watermarks.keep_up()
    asked = Event.objects.filter(occurred_at__gte=from_ms(START + since * HOUR))
    assert list(queries.narrowed(asked, since=START + since * HOUR)) == list(asked)


@on_sqlite
def test_what_comes_late_is_found_and_what_is_long_past_is_not_looked_at(ids: Any, api: Api, message: Message) -> None:
    happen(message, *range(20))
    watermarks.keep_up()
    happen(message, 50, 3, 51)
    with CaptureQueriesContext(connection) as captured:
        found = api.get("/api/events", since=iso(from_ms(START + 50 * HOUR)))["results"]
    assert [event["id"] for event in found] == [ids()[-1], ids()[-3]]
    assert f'"events"."id" > {ids()[19]}' in captured[-1]["sql"]


def test_postgresql_needs_none(message: Message) -> None:
    happen(message, *range(20))
    assert (watermarks.keep_up() > 0) == (connection.vendor == "sqlite")


def test_a_kind_that_never_happened_is_known_without_a_look_at_events(api: Api, campaign: Campaign, message: Message) -> None:
    happen(message, 1)
    for kind, number in (("opened", 1), ("complained", 0)):
        for path in ("/api/events", f"/api/events?campaign_id={campaign.pk}"):
            with CaptureQueriesContext(connection) as captured:
                assert len(api.get(f"{path}{'&' if '?' in path else '?'}kind={kind}")["results"]) == number
            assert any('FROM "events"' in query["sql"] for query in captured) == (number > 0)


def test_a_kind_counts_for_the_campaign_it_happened_in(campaign: Campaign, message: Message) -> None:
    happen(message, 1)
    asked = Event.objects.filter(kind=Kind.OPENED)
    assert queries.narrowed(asked, kind=Kind.OPENED, campaign_id=campaign.pk).count() == 1
    assert queries.narrowed(asked, kind=Kind.OPENED, campaign_id=campaign.pk + 1).count() == 0
