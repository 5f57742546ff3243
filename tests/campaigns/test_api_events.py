from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from campaigns import lifecycle
from campaigns.apply import apply
from campaigns.events import EventKind, TrackingEvent, Verdict, manual_mark
from campaigns.models import Campaign, Message
from tests.campaigns.calls import Api

pytestmark = pytest.mark.django_db

START = 1_705_312_800_000  # 2024-01-15T10:00:00Z


def hit(message: Message, kind: EventKind = EventKind.OPENED, minutes: int = 0, **more: Any) -> TrackingEvent:
    return TrackingEvent(kind, START + minutes * 60_000, "hit", token=message.tracking_token, **more)


def cursor(position: bytes) -> str:
    return b64encode(position).decode()


BROKEN = (b"p=abc", b"p=1&o=x", b"\xff\xff", b"p=\0", b"o=-1")


def kinds(page: dict[str, Any]) -> list[str]:
    return [event["kind"] for event in page["results"]]


def test_an_event_has_its_fields_in_order(api: Api, message: Message) -> None:
    judged = {"verdict": Verdict.SCANNER, "rule": "burst", "confidence": 0.9}
    apply([hit(message, EventKind.CLICKED, url="https://a.example/", ip="192.0.2.7", user_agent="Mozilla/5.0", method="GET", **judged)])
    page = api.get("/api/events")
    assert list(page) == ["next", "previous", "results"]
    event = page["results"][0]
    assert event.pop("id")
    assert list(event.items()) == [
        ("message_id", message.pk), ("campaign_id", message.campaign_id), ("kind", "clicked"), ("occurred_at", "2024-01-15T10:00:00Z"),
        ("verdict", "scanner"), ("rule", "burst"), ("confidence", 0.9), ("ip", "192.0.2.7"), ("user_agent", "Mozilla/5.0"),
        ("url", "https://a.example/"), ("source", "hit"), ("detail", None),
    ]  # fmt: skip


def test_a_bounce_shows_its_details(api: Api, message: Message) -> None:
    apply([manual_mark(EventKind.BOUNCED, "api", message.pk, START, reason="full", diagnostic_code="452 4.2.2")])
    assert api.get(f"/api/messages/{message.pk}/events")["results"][0]["detail"] == {"reason": "full", "diagnostic_code": "452 4.2.2"}


def test_events_are_read_page_by_page_while_more_come_in(api: Api, message: Message) -> None:
    apply([hit(message, minutes=n) for n in range(5)])
    page = api.get("/api/events", limit=2)
    seen = [event["id"] for event in page["results"]]
    apply([hit(message, minutes=9)])
    while page["next"]:
        page = api.get(page["next"])
        seen += [event["id"] for event in page["results"]]
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) == 5
    assert len(api.get(page["previous"])["results"]) == 2


def test_filters_narrow_events(api: Api, campaign: Campaign, message: Message) -> None:
    other = lifecycle.create_message("b@example.com")
    apply([hit(message), hit(message, EventKind.CLICKED, 60, url="https://a.example/"), hit(other, EventKind.SENT, 120)])
    api.post(f"/api/messages/{message.pk}/opened", {"opened_at": "2024-01-15T13:00:00Z"})
    assert kinds(api.get("/api/events")) == ["opened", "sent", "clicked", "opened"]
    assert kinds(api.get("/api/events", campaign_id=campaign.pk)) == ["opened", "clicked", "opened"]
    assert kinds(api.get("/api/events", message_id=other.pk)) == ["sent"]
    assert kinds(api.get("/api/events", kind="clicked")) == ["clicked"]
    assert kinds(api.get("/api/events", verdict="human")) == ["opened"]
    assert kinds(api.get("/api/events", since="2024-01-15T11:00:00", until="2024-01-15T12:00:00Z")) == ["clicked"]
    assert kinds(api.get(f"/api/messages/{message.pk}/events", kind="opened", verdict="human")) == ["opened"]
    assert kinds(api.get(f"/api/messages/{other.pk}/events")) == ["sent"]


@pytest.mark.parametrize(
    "query",
    [
        "kind=read", "kind=1", "verdict=robot", "since=yesterday", "until=2024-13-01", "message_id=x", "message_id=9223372036854775808",
        "limit=x", "offset=3", "token=abc", "cursor=x", "cursor=%00", "cursor=ü", *(f"cursor={cursor(position)}" for position in BROKEN),
    ],
)  # fmt: skip
def test_a_parameter_that_is_wrong_is_refused(api: Api, query: str) -> None:
    assert query.partition("=")[0] in api.refused("get", f"/api/events?{query}")


def test_a_word_that_is_none_is_answered_with_those_there_are(api: Api) -> None:
    assert api.refused("get", "/api/events?verdict=robot") == "verdict: write one of human, proxy, prefetch, scanner, machine"
    assert "kind: write one of sent, delivered, deferred, opened, " in api.refused("get", "/api/events?kind=read")
    assert "status: write one of queued, sent, " in api.refused("get", "/api/messages?status=lost")


def test_a_cursor_beyond_every_id_is_an_empty_page(api: Api, message: Message) -> None:
    apply([hit(message)])
    assert len(api.get("/api/events", cursor=cursor(b"p=" + b"9" * 40))["results"]) == 1
    assert api.get("/api/events", cursor=cursor(b"p=0"))["results"] == []


def test_events_take_the_same_queries_whatever_their_number(api: Api, message: Message, django_assert_max_num_queries: Any) -> None:
    for n in range(20):
        apply(
            [hit(message, EventKind.CLICKED, n, url=f"https://a.example/{n}", user_agent=f"agent {n}", verdict=Verdict.HUMAN, rule=f"r{n}")]
        )
    with django_assert_max_num_queries(2):
        assert len(api.get("/api/events")["results"]) == 20
    with django_assert_max_num_queries(3):
        assert len(api.get(f"/api/messages/{message.pk}/events")["results"]) == 20
