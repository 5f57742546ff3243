"""Rows of one campaign, whatever the planner thinks of campaigns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet

from campaigns import lifecycle, queries
from campaigns.apply import apply
from campaigns.events import EventKind, TrackingEvent
from campaigns.models import Campaign, Event, Message
from tests.campaigns.making import START

pytestmark = pytest.mark.django_db
on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite takes the index by itself")


@pytest.fixture
def two() -> list[Campaign]:
    """Two campaigns, one after the other: 2,000 messages and as many events each."""
    campaigns = [lifecycle.create_campaign(name) for name in ("first", "second")]
    for campaign in campaigns:
        made = lifecycle.create_messages(
            [{"campaign_id": campaign.pk, "recipient_email": f"{number}@example.com"} for number in range(2_000)]
        )
        apply([TrackingEvent(EventKind.OPENED, START, "hit", message_id=message.pk) for message in made])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return campaigns


def plan(rows: QuerySet[Any]) -> str:
    with connection.cursor() as cursor:
        sql, params = rows.query.sql_with_params()
        cursor.execute(f"EXPLAIN (FORMAT json) {sql}", params)
        return json.dumps(cursor.fetchone()[0])


@on_postgresql
@pytest.mark.parametrize("order", ["id", "-id"])
def test_a_page_comes_by_the_index_of_the_campaign(two: list[Campaign], order: str) -> None:
    far = two[0] if order == "-id" else two[1]
    for rows in (Message.objects.of_campaign(far.pk), queries.messages().of_campaign(far.pk), queries.events().of_campaign(far.pk)):
        found = plan(rows.order_by(order)[:50])
        assert "campaign_id" in found.split('"Index Name": "')[1].split('"')[0], found
        assert '"Node Type": "Sort"' not in found
    plain = plan(Message.objects.filter(campaign_id=far.pk).order_by(order)[:50])
    assert "messages_pkey" in plain  # what it is against; without this the test says nothing


def test_it_is_the_same_rows_in_the_same_order(two: list[Campaign]) -> None:
    for model in (Message, Event):
        rows: Any = model._default_manager
        for order in ("id", "-id", "pk"):
            plain = list(rows.filter(campaign_id=two[0].pk).order_by(order).values_list("pk", flat=True))
            assert list(rows.of_campaign(two[0].pk).order_by(order).values_list("pk", flat=True)) == plain
            assert list(rows.order_by(order).of_campaign(two[0].pk).filter(pk__gt=plain[5]).values_list("pk", flat=True)) == [
                pk for pk in plain if pk > plain[5]
            ]
        assert rows.of_campaign(two[0].pk).first() == rows.filter(campaign_id=two[0].pk).first()
        assert rows.of_campaign(two[1].pk).count() == 2_000
        assert rows.of_campaign(two[1].pk + 1).count() == 0
