"""The flow that all providers share: verified, read item by item, committed, answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaigns import lifecycle
from campaigns.models import Campaign, CampaignCounters, Event, Message
from campaigns.status import Status
from campaigns.times import utc_now
from tests.webhooks.conftest import ELSEWHERE, Post, counts, problem
from webhooks import receive
from webhooks.providers import PROVIDERS

pytestmark = pytest.mark.django_db

OPEN = {"event": "open", "sg_message_id": "uuid-token"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
fields = (
    "event",
    "timestamp",
    "sg_message_id",
    "sg_event_id",
    "tracking_token",
    "type",
    "status",
    "reason",
    "bounce_type",
    "ip",
    "url",
    "useragent",
)
#: Objects that look like events, with anything in their fields.
near_events = st.fixed_dictionaries(
    {"event": st.sampled_from(["open", "click", "bounce", "dropped", "deferred", "delivered"]), "tracking_token": st.just("uuid-token")},
    optional={name: json_values for name in fields if name not in ("event", "tracking_token")},
)


def test_curl_without_a_content_type_is_read_as_json(post: Post) -> None:
    response = post("sendgrid", b'{"test": true}')
    assert response.status_code == 200
    assert response.json() == counts(ignored=1)


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "text/plain", "application/xml", ""])
def test_any_content_type_is_read_as_json(client: Client, message: Message, content_type: str) -> None:
    response = client.post("/webhooks/sendgrid", json.dumps([OPEN]).encode(), content_type=content_type)
    assert response.json() == counts(accepted=1)


def test_an_odd_accept_header_costs_no_event(client: Client, message: Message) -> None:
    response = client.post("/webhooks/sendgrid?format=xml", json.dumps([OPEN]), content_type="application/json", HTTP_ACCEPT="text/html")
    assert response.json() == counts(accepted=1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"event": "open"',
        b"test=true",
        b"\xff\xfe\x00",
        b'[{"event": "\xff"}]',
        b'{"timestamp": NaN}',
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
    ],
)
def test_broken_json_is_refused(post: Post, body: bytes) -> None:
    assert problem(post("sendgrid", body), 400) == "The body is no JSON."


@pytest.mark.parametrize("body", [b"1", b'"open"', b"null", b"true"])
def test_json_that_is_neither_object_nor_array_is_refused(post: Post, body: bytes) -> None:
    assert "array" in problem(post("sendgrid", body), 400)


def test_an_empty_array_is_nothing(post: Post) -> None:
    assert post("sendgrid", []).json() == counts()


@pytest.mark.parametrize("size", [8 * 1024 * 1024 + 1, 16 * 1024 * 1024 + 1])
def test_a_body_of_more_than_8_mb_is_refused(post: Post, size: int) -> None:
    assert "MB" in problem(post("sendgrid", b"[" + b" " * (size - 2) + b"]"), 413)


def test_a_body_of_8_mb_is_read(post: Post, message: Message) -> None:
    event = json.dumps([OPEN]).encode()
    assert post("sendgrid", event + b" " * (8 * 1024 * 1024 - len(event))).json() == counts(accepted=1)


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
@pytest.mark.parametrize("name", [provider.name for provider in PROVIDERS])
def test_only_post_is_taken(client: Client, method: str, name: str) -> None:
    response = getattr(client, method)(f"/webhooks/{name}")
    assert response.status_code == 405
    assert response["Allow"] == "POST"


def test_a_slash_at_the_end_is_tolerated_and_another_provider_is_not(post: Post) -> None:
    assert post("sendgrid/", {"test": True}).status_code == 200
    assert post("nobody", {"test": True}).status_code == 404


def test_one_item_that_is_wrong_costs_no_other(post: Post, message: Message) -> None:
    items = [None, 1, "open", [], OPEN, {**OPEN, "timestamp": "soon"}, {}, {"event": "unheard of"}, {**OPEN, "sg_message_id": "nobody's"}]
    assert post("sendgrid", items).json() == counts(accepted=1, ignored=3, rejected=5)
    message.refresh_from_db()
    assert message.open_count == 1


def test_the_same_array_twice_changes_nothing(post: Post, message: Message) -> None:
    items = [{**OPEN, "sg_event_id": f"id-{number}"} for number in range(3)]
    assert post("sendgrid", items).json() == counts(accepted=3)
    assert post("sendgrid", items).json() == counts(duplicates=3)
    message.refresh_from_db()
    assert message.open_count == 3
    assert Event.objects.count() == 3


def test_an_id_repeated_within_an_array_is_one_event(post: Post, message: Message) -> None:
    items = [{**OPEN, "sg_event_id": f"id-{number % 7}"} for number in range(10)]
    assert post("sendgrid", items).json() == counts(accepted=7, duplicates=3)
    assert Event.objects.count() == 7


def test_an_event_of_a_message_made_after_it_was_ignored_is_taken_when_it_comes_again(post: Post, campaign: Campaign) -> None:
    event = {"event": "open", "sg_message_id": "late", "sg_event_id": "1"}
    assert post("sendgrid", event).json() == counts(ignored=1)
    lifecycle.create_message("late@example.com", campaign.pk, tracking_token="late")
    assert post("sendgrid", event).json() == counts(accepted=1)


def test_a_delivery_reported_after_an_open_lowers_nothing(post: Post, message: Message) -> None:
    post("sendgrid", [{**OPEN, "timestamp": 1_705_312_300}])
    post("sendgrid", [{**OPEN, "event": "delivered", "timestamp": 1_705_312_200}])
    message.refresh_from_db()
    assert message.status == Status.OPENED
    assert message.opened_at is not None
    assert message.delivered_at is not None
    assert message.delivered_at < message.opened_at


def test_messages_of_a_deleted_campaign_are_nobody_s(post: Post, message: Message, campaign: Campaign) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(deleted_at=utc_now())  # its rows are still there
    assert post("sendgrid", [OPEN]).json() == counts(ignored=1)


@pytest.mark.parametrize(("named", "finds"), [(True, 1), (False, 3)])
def test_a_thousand_events_cost_a_bounded_number_of_queries(named: bool, finds: int, post: Post, campaign: Campaign) -> None:
    """A query for each place at which the message's token may stand, as long as there are messages still to be found."""
    tokens = [created.tracking_token for created in lifecycle.create_messages({"recipient_email": f"{n}@example.com"} for n in range(100))]
    items = [
        {
            "event": ("delivered", "open", "click", "bounce")[number % 4],
            "sg_message_id": f"{tokens[number % 100]}.filter0001.16648.5515E0B88.0",
            "tracking_token": tokens[number % 100] if named else f"unknown-{number}",
            "sg_event_id": f"id-{number}",
            "timestamp": 1_705_312_200 + number,
            "useragent": f"Mozilla/5.0 ({number % 3})",
            "url": f"https://example.com/{number % 3}",
        }
        for number in range(1000)
    ]
    with CaptureQueriesContext(connection) as queries:
        assert post("sendgrid", items).json() == counts(accepted=1000)
    assert len([query for query in queries if "messages" in query["sql"] and query["sql"].startswith("SELECT")]) == finds + 1  # and lock
    assert len(queries) < 25


@pytest.mark.parametrize("error", [OperationalError("database is locked"), InterfaceError("connection already closed")])
def test_without_the_database_the_provider_is_asked_to_come_again(
    post: Post, message: Message, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(events: object) -> None:
        raise error

    event = {**OPEN, "sg_event_id": "1"}
    with monkeypatch.context() as broken:
        broken.setattr(receive, "apply", fail)
        response = post("sendgrid", event)
    assert "database" in problem(response, 503)
    assert int(response["Retry-After"]) > 0
    assert post("sendgrid", event).json() == counts(accepted=1)


@pytest.mark.django_db(transaction=True)
def test_events_are_committed_before_the_answer(post: Post, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    open_transactions, received = [], receive.Received
    monkeypatch.setattr(receive, "Received", lambda *n: open_transactions.append(connection.in_atomic_block) or received(*n))
    assert post("sendgrid", OPEN).json() == counts(accepted=1)
    assert open_transactions == [False]
    assert CampaignCounters.objects.get().opened == 1


def test_texts_of_any_length_and_kind_are_kept_cut(post: Post, message: Message) -> None:
    items = [
        {**OPEN, "event": "click", "useragent": "A" * 65_536, "url": "https://example.com/" + "u" * 65_536, "ip": "x" * 65_536},
        {**OPEN, "event": "bounce", "reason": "\0" + "\ud800" * 5000, "status": "5" * 5000, "bounce_classification": "c" * 5000},
        {**OPEN, "sg_event_id": "\0\ud800" + "i" * 5000},
        {**OPEN, "sg_message_id": "\0\ud800", "tracking_token": "uuid-token"},
    ]
    raw = json.dumps(items).encode()
    assert post("sendgrid", raw).json() == counts(accepted=4)
    click = Event.objects.select_related("user_agent", "link").get(kind=5)
    assert click.user_agent is not None
    assert click.user_agent.user_agent == "A" * 1024
    assert click.link is not None
    assert len(click.link.url) == 8000
    assert click.ip is None


@pytest.mark.parametrize("name", [provider.name for provider in PROVIDERS])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(body=json_values | st.lists(json_values | near_events, max_size=5) | near_events)
def test_no_json_is_our_failure(name: str, body: Any, post: Post, message: Message) -> None:
    response = post(name, body)
    assert response.status_code < 500
    if response.status_code == 200:
        items = len(body) if isinstance(body, list) else 1
        assert sum(response.json().values()) == items


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(body=st.binary(max_size=200))
def test_no_bytes_are_our_failure(body: bytes, post: Post) -> None:
    assert post("sendgrid", body).status_code < 500


def test_from_elsewhere_nothing_is_taken_without_a_secret(post: Post, message: Message) -> None:
    assert "SENDGRID_WEBHOOK_SECRET" in problem(post("sendgrid", OPEN, **ELSEWHERE), 403)
    assert "WEBHOOK_GMAIL_SECRET" in problem(post("gmail", {}, **ELSEWHERE), 403)
    message.refresh_from_db()
    assert message.status == Status.QUEUED


def test_the_sender_is_verified_before_the_body_is_read(post: Post, configure: Callable[..., None]) -> None:
    assert "SENDGRID_WEBHOOK_SECRET" in problem(post("sendgrid", b"{", **ELSEWHERE), 403)
    configure(SENDGRID_WEBHOOK_SECRET="s3cret")
    problem(post("sendgrid", b"{"), 401)
