from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from campaigns.models import Event, Message
from tests.campaigns.calls import Api

pytestmark = pytest.mark.django_db

BOUNCE = {
    "bounce_reason": "Invalid email address",
    "bounce_type": "permanent",
    "bounce_subtype": "Permanent",
    "diagnostic_code": "smtp; 550 5.1.1 user unknown",
}


@pytest.mark.parametrize(
    ("mark", "status", "time"),
    [
        ("sent", "sent", "sent_at"),
        ("delivered", "delivered", "delivered_at"),
        ("opened", "opened", "opened_at"),
        ("clicked", "clicked", "clicked_at"),
        ("bounce", "bounced", "bounced_at"),
    ],
)
def test_a_mark_answers_with_the_message_as_it_is_then(api: Api, message: Message, mark: str, status: str, time: str) -> None:
    path = f"/api/messages/{message.pk}"
    marked = api.post(f"{path}/{mark}", {time: "2024-01-15T10:36:00"})
    assert (marked["status"], marked[time]) == (status, "2024-01-15T10:36:00Z")
    assert api.get(path) == marked


@pytest.mark.parametrize("mark", ["sent", "delivered", "opened", "clicked", "bounce"])
def test_a_mark_needs_no_body_and_is_of_now(api: Api, message: Message, mark: str) -> None:
    for content_type in ("application/json", "application/x-www-form-urlencoded"):  # the latter is curl's own
        assert api.client.post(f"/api/messages/{message.pk}/{mark}", b"", content_type=content_type).status_code == 200
    age = dt.datetime.now(dt.UTC) - Event.objects.earliest("id").occurred_at
    assert abs(age) < dt.timedelta(minutes=1)


def test_a_bounce_is_reported_with_its_details(api: Api, message: Message) -> None:
    bounced = api.post(f"/api/messages/{message.pk}/bounce", BOUNCE)
    assert bounced["status"] == "bounced"
    assert {name: bounced[name] for name in BOUNCE} == BOUNCE
    assert bounced["bounced_at"]
    reasons = api.get(f"/api/campaigns/{message.campaign_id}")["metrics"]["bounce_reasons"]
    assert reasons == {"Invalid email address": 1}


def test_a_bounce_without_a_type_is_permanent_and_without_a_reason_unknown(api: Api, message: Message) -> None:
    assert api.post(f"/api/messages/{message.pk}/bounce", {})["bounce_type"] == "permanent"
    assert api.get(f"/api/campaigns/{message.campaign_id}")["metrics"]["bounce_reasons"] == {"unknown": 1}


def test_a_temporary_bounce_gives_way_to_delivery(api: Api, message: Message) -> None:
    path = f"/api/messages/{message.pk}"
    assert api.post(f"{path}/bounce", {"bounce_type": "temporary", "bounce_reason": "full"})["status"] == "bounced"
    delivered = api.post(f"{path}/delivered")
    assert (delivered["status"], delivered["bounce_type"]) == ("delivered", "temporary")


def test_opens_and_clicks_marked_by_hand_are_a_persons(api: Api, message: Message) -> None:
    path = f"/api/messages/{message.pk}"
    api.post(f"{path}/opened")
    marked = api.post(f"{path}/clicked", {"url": "https://example.com/offer"})
    assert (marked["human_open_count"], marked["human_click_count"], marked["open_count"]) == (1, 1, 1)
    click, opened = api.get(f"{path}/events")["results"]
    assert (click["verdict"], click["rule"], click["confidence"], click["source"]) == ("human", "manual", 1.0, "api")
    assert (click["url"], opened["url"]) == ("https://example.com/offer", None)


def test_long_texts_of_a_bounce_are_cut_not_refused(api: Api, message: Message) -> None:
    bounced = api.post(
        f"/api/messages/{message.pk}/bounce", {"bounce_reason": "x" * 5000, "bounce_subtype": "y" * 500, "diagnostic_code": "\ud800"}
    )
    assert (len(bounced["bounce_reason"]), len(bounced["bounce_subtype"])) == (1000, 100)


@pytest.mark.parametrize(
    ("mark", "body", "field"),
    [
        ("sent", {"sent_at": "soon"}, "sent_at"),
        ("sent", {"sent_at": 1705315000}, "sent_at"),
        ("sent", {"sent_at": "2999-01-01T00:00:00Z"}, "sent_at"),
        ("sent", {"sent_at": "0001-01-01T00:00:00+14:00"}, "sent_at"),
        ("sent", {"sent_at": "9999-12-31T23:59:59-14:00"}, "sent_at"),
        ("sent", {"sent_at": ["2024-01-15"]}, "sent_at"),
        ("sent", {"opened_at": "2024-01-15T10:36:00"}, "opened_at"),
        ("clicked", {"url": "javascript:alert(1)"}, "url"),
        ("clicked", {"url": "https://example.com/" + "x" * 8000}, "url"),
        ("clicked", {"url": 5}, "url"),
        ("bounce", {"bounce_type": "hard"}, "bounce_type"),
        ("bounce", {"bounce_type": ["permanent"]}, "bounce_type"),
        ("bounce", {"bounce_reason": "a\0b"}, "bounce_reason"),
        ("bounce", {"diagnostic_code": {"code": 550}}, "diagnostic_code"),
    ],
)
def test_a_wrong_report_is_refused_by_field_and_changes_nothing(api: Api, message: Message, mark: str, body: Any, field: str) -> None:
    before = api.get(f"/api/messages/{message.pk}")
    assert api.post(f"/api/messages/{message.pk}/{mark}", body, status=400)["errors"][0]["field"] == field
    assert api.get(f"/api/messages/{message.pk}") == before


def test_a_clock_may_be_a_day_ahead_and_no_more(api: Api, message: Message) -> None:
    now = dt.datetime.now(dt.UTC)
    path = f"/api/messages/{message.pk}/sent"
    api.post(path, {"sent_at": (now + dt.timedelta(hours=23)).isoformat()})
    assert "24 hours" in api.refused("post", path, {"sent_at": (now + dt.timedelta(hours=25)).isoformat()})


@pytest.mark.parametrize("mark", ["sent", "bounce", "events"])
def test_a_message_nobody_has_is_404(api: Api, mark: str) -> None:
    for pk in (999, 10**40):
        api.refused("get" if mark == "events" else "post", f"/api/messages/{pk}/{mark}", status=404)
