"""What SendGrid's words mean. The shapes are those of its documentation and of what people saw it send; the values are ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.utils.dateparse import parse_datetime

from campaigns import lifecycle
from campaigns.models import Campaign, Event, Message
from tests.webhooks.conftest import Post, counts

pytestmark = pytest.mark.django_db

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "sendgrid" / "events.json"
NOW = 1_705_312_200
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def event(word: str, **fields: Any) -> dict[str, Any]:
    """As SendGrid sends it: the token of the message with a suffix."""
    return {
        "email": "user@example.com",
        "timestamp": NOW,
        "smtp-id": "<uuid-token@ismtpd0001.sendgrid.example>",
        "event": word,
        "category": ["newsletter"],
        "sg_message_id": "uuid-token.filter0001p2iad2-19137-5B02FFC3-F.0",
        **fields,
    }


def bounce(post: Post, message: Message, item: dict[str, Any]) -> tuple[Any, ...]:
    assert post("sendgrid", [item]).json() == counts(accepted=1)
    message.refresh_from_db()
    return message.bounce_type, message.bounce_subtype, message.bounce_reason, message.diagnostic_code


# -- the kinds


@pytest.mark.parametrize(
    ("word", "kind", "status", "column"),
    [
        ("processed", "sent", "sent", "sent_at"),
        ("Processed", "sent", "sent", "sent_at"),
        ("deferred", "deferred", "queued", None),
        ("delivered", "delivered", "delivered", "delivered_at"),
        ("open", "opened", "opened", "opened_at"),
        ("click", "clicked", "clicked", "clicked_at"),
        ("bounce", "bounced", "bounced", "bounced_at"),
        ("dropped", "bounced", "bounced", "bounced_at"),
        ("spamreport", "complained", "sent", "complained_at"),
        ("unsubscribe", "unsubscribed", "sent", "unsubscribed_at"),
        ("group_unsubscribe", "unsubscribed", "sent", "unsubscribed_at"),
    ],
)
def test_a_word_of_sendgrid_is_a_kind_of_ours(post: Post, message: Message, word: str, kind: str, status: str, column: str | None) -> None:
    assert post("sendgrid", [event(word)]).json() == counts(accepted=1)
    stored = Event.objects.get()
    message.refresh_from_db()
    assert (stored.get_kind_display(), stored.source_word, stored.judgement) == (kind, "sendgrid", None)
    assert int(stored.occurred_at.timestamp()) == NOW
    assert message.status == status
    assert column is None or getattr(message, column) == stored.occurred_at


@pytest.mark.parametrize("word", ["group_resubscribe", "account_status_change", "later", "", None])
def test_other_words_are_ignored(post: Post, message: Message, word: Any) -> None:
    assert post("sendgrid", [event(word)]).json() == counts(ignored=1)


def test_the_object_that_is_written_by_hand_works_as_shown(post: Post, campaign: Campaign) -> None:
    message = lifecycle.create_message("user@example.com", campaign.pk, tracking_token="tracking-token")
    item = {
        "event": "bounce",
        "email": "user@example.com",
        "sg_message_id": "tracking-token",
        "bounce_type": "permanent",
        "reason": "Permanent error: 550 5.1.1 user unknown",
    }
    with time_machine.travel(NOW, tick=False):
        assert post("sendgrid", item).json() == counts(accepted=1)
    message.refresh_from_db()
    assert (message.status, message.bounce_type) == ("bounced", "permanent")
    assert message.bounce_reason == "Permanent error: 550 5.1.1 user unknown"
    assert message.bounced_at == parse_datetime("2024-01-15T09:50:00Z")


def test_a_click_has_its_link_and_who_followed_it(post: Post, message: Message) -> None:
    item = event("click", url="https://example.com/offer?a=1&b=2", useragent=AGENT, ip="192.0.2.7", url_offset={"index": 0, "type": "html"})
    assert post("sendgrid", [item]).json() == counts(accepted=1)
    stored = Event.objects.select_related("link", "user_agent").get()
    assert stored.link is not None
    assert stored.user_agent is not None
    assert (stored.link.url, stored.user_agent.user_agent, stored.ip) == ("https://example.com/offer?a=1&b=2", AGENT, "192.0.2.7")


def test_the_address_of_sendgrid_s_own_server_is_not_taken_for_the_recipient_s(post: Post, message: Message) -> None:
    assert post("sendgrid", [event("delivered", ip="192.0.2.7", response="250 OK"), event("bounce", ip="192.0.2.7")]).json() == counts(
        accepted=2
    )
    assert not Event.objects.exclude(ip=None).exists()


def test_an_open_that_sendgrid_holds_for_a_machine_s_keeps_that_hint(post: Post, message: Message) -> None:
    post(
        "sendgrid",
        [event("open", useragent="Mozilla/5.0", sg_machine_open=True), event("open", useragent="Mozilla/5.0", sg_machine_open=False)],
    )
    headers = [stored.user_agent.headers for stored in Event.objects.select_related("user_agent").order_by("id") if stored.user_agent]
    assert headers == [{"sg-machine-open": "true"}, {}]


def test_a_deferral_has_the_server_s_answer_as_its_reason(post: Post, message: Message) -> None:
    post("sendgrid", [event("deferred", response="400 try again later", attempt="5")])
    assert Event.objects.get().detail == {"reason": "400 try again later"}


# -- bounces


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"type": "bounce", "status": "5.1.1"}, "permanent"),
        ({"type": "bounce", "status": "4.2.2"}, "temporary"),
        ({"type": "bounce"}, "permanent"),
        ({"type": "blocked", "status": "5.7.1"}, "temporary"),
        ({"type": "blocked", "status": "4.7.1"}, "temporary"),
        ({"type": "blocked"}, "temporary"),
        ({"type": "Blocked", "status": ""}, "temporary"),
        ({"status": "5.0.0"}, "permanent"),
        ({"status": "4.0.0"}, "temporary"),
        ({}, "permanent"),
        ({"type": "unheard of"}, "permanent"),
        ({"bounce_type": "temporary", "type": "bounce", "status": "5.1.1"}, "temporary"),
        ({"bounce_type": "Permanent", "type": "blocked"}, "permanent"),
    ],
)
def test_a_bounce_is_for_good_or_for_now(post: Post, message: Message, fields: dict[str, str], expected: str) -> None:
    assert bounce(post, message, event("bounce", **fields))[0] == expected


def test_a_bounce_keeps_reason_status_and_classification_as_they_stand(post: Post, message: Message) -> None:
    item = event("bounce", type="bounce", reason="550 5.1.1 no such user", status="5.1.1", bounce_classification="Invalid Address", tls=1)
    assert bounce(post, message, item) == ("permanent", "Invalid Address", "550 5.1.1 no such user", "5.1.1")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("Bounced Address", "permanent"),
        ("Unsubscribed Address", "permanent"),
        ("Spam Reporting Address", "permanent"),
        ("Invalid", "permanent"),
        (None, "permanent"),
        ("Spam Content (if Spam Checker app is enabled)", "temporary"),
        ("Recipient List over Package Quota", "temporary"),
        ("Invalid SMTPAPI header", "temporary"),
    ],
)
def test_a_drop_is_a_bounce_for_good_unless_the_address_is_not_to_blame(
    post: Post, message: Message, reason: str | None, expected: str
) -> None:
    assert bounce(post, message, event("dropped", reason=reason, status="5.0.0")) == (expected, "dropped", reason, "5.0.0")


# -- finding the message


@pytest.mark.parametrize(
    "fields",
    [
        {"sg_message_id": "uuid-token"},
        {"sg_message_id": "uuid-token.filter0001.16648.5515E0B88.000000000000000000000"},
        {"sg_message_id": "uuid-token.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0"},
        {"sg_message_id": "uuid-token.stfilter-015.5185.55F883172.0"},
        {"sg_message_id": "uuid-token.recvd-5f54b5d587-pczjm-1-67BADEEA-6.0"},
        {"sg_message_id": "uuid-token.16648"},
        {"sg_message_id": "", "tracking_token": "uuid-token"},
        {"sg_message_id": None, "tracking_token": "uuid-token"},
        {"tracking_token": "uuid-token", "sg_message_id": "another.filter0001.16648.5515E0B88.0"},
        {"tracking_token": "nobody's", "sg_message_id": "uuid-token.filter0001.16648.5515E0B88.0"},
        {"tracking_token": ""},
    ],
)
def test_the_message_is_found(post: Post, message: Message, fields: dict[str, Any]) -> None:
    assert post("sendgrid", [event("open", **fields)]).json() == counts(accepted=1)


@pytest.mark.parametrize(
    "sg_message_id", ["dots.in.it", "dots.in.it.filter0001.16648.5515E0B88.0", "dots.in.it.recvd-5f54b5d587-pczjm-1-67BADEEA-6.0"]
)
def test_a_token_may_have_dots(post: Post, campaign: Campaign, sg_message_id: str) -> None:
    lifecycle.create_message("user@example.com", campaign.pk, tracking_token="dots.in.it")
    assert post("sendgrid", [event("open", sg_message_id=sg_message_id)]).json() == counts(accepted=1)


def test_the_custom_argument_goes_before_sendgrid_s_own_id(post: Post, message: Message, campaign: Campaign) -> None:
    other = lifecycle.create_message("other@example.com", campaign.pk, tracking_token="other")
    assert post("sendgrid", [event("open", tracking_token="other")]).json() == counts(accepted=1)
    assert Event.objects.get().message_id == other.pk


@pytest.mark.parametrize(
    "fields",
    [
        {"sg_message_id": ""},  # an asynchronous bounce
        {"sg_message_id": None},
        {"sg_message_id": "UUID-TOKEN"},
        {"sg_message_id": ".filter0001.16648"},
        {"sg_message_id": "' OR 1=1 --"},
        {"sg_message_id": "x" * 5000},
    ],
)
def test_an_event_of_no_message_of_ours_is_ignored(post: Post, message: Message, fields: dict[str, Any]) -> None:
    assert post("sendgrid", [event("bounce", **fields)]).json() == counts(ignored=1)


# -- times


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        (NOW - 60, NOW - 60),
        (str(NOW - 60), NOW - 60),
        (NOW - 60 + 0.5, NOW - 59.5),
        (f"{NOW - 60}.5", NOW - 59.5),
        ((NOW - 60) * 1000, NOW - 60),
        (str((NOW - 60) * 1000 + 372), NOW - 59.628),
        (NOW + 86_400, NOW + 86_400),
        (NOW + 86_401, NOW),
        (5_000_000_000, NOW),
        (5_000_000_000_000, NOW),
        (None, NOW),
    ],
)
def test_a_time_is_read_and_a_clock_far_ahead_is_not_believed(post: Post, message: Message, timestamp: Any, seconds: float) -> None:
    with time_machine.travel(NOW, tick=False):
        assert post("sendgrid", [event("open", timestamp=timestamp)]).json() == counts(accepted=1)
    assert Event.objects.get().occurred_at.timestamp() == seconds


@pytest.mark.parametrize(
    "timestamp",
    [
        0,
        -1,
        10**14,
        10**40,
        1e300,
        "",
        "yesterday",
        "2024-01-15T09:50:00Z",
        "1_705",
        " 5",
        "-5",
        "nan",
        "inf",
        "9" * 5000,
        10**400,
        True,
        [NOW],
        {"s": NOW},
    ],
)
def test_a_time_that_is_none_is_rejected(post: Post, message: Message, timestamp: Any) -> None:
    assert post("sendgrid", [event("open", timestamp=timestamp)]).json() == counts(rejected=1)


def test_a_number_too_large_for_a_float_is_no_time(post: Post, message: Message) -> None:
    raw = json.dumps([event("open")]).replace(str(NOW), "1e400").encode()
    assert post("sendgrid", raw).json() == counts(rejected=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"event": 5},
        {"sg_event_id": 5},
        {"sg_message_id": ["uuid-token"]},
        {"tracking_token": 5},
        {"useragent": {}},
        {"ip": 3221225991},
        {"event": "click", "url": 5},
        {"event": "deferred", "response": 5},
        {"event": "bounce", "reason": ["full"]},
        {"event": "bounce", "status": 5.1},
        {"event": "bounce", "type": 1},
        {"event": "bounce", "bounce_type": "sideways"},
        {"event": "bounce", "bounce_classification": 5},
    ],
)
def test_a_field_of_the_wrong_type_is_rejected(post: Post, message: Message, fields: dict[str, Any]) -> None:
    assert post(
        "sendgrid", [event(**{"word": "open", **fields})] if "event" not in fields else [{**event("open"), **fields}]
    ).json() == counts(rejected=1)
    assert not Event.objects.exists()


# -- shapes from elsewhere


def cases() -> list[Any]:
    if not CASES.exists():
        reason = f"{CASES} is not there: SendGrid's own examples lie beside the repository, not in it"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason))]
    return [
        pytest.param(case, id=f"{index}-{case['source'].rpartition('/')[2]}") for index, case in enumerate(json.loads(CASES.read_text()))
    ]


@pytest.mark.parametrize("case", cases())
def test_what_sendgrid_sends_is_understood(post: Post, campaign: Campaign, case: dict[str, Any]) -> None:
    """Every event of a case is accepted once there is a message with the stem of its id as token; those without an id are ignored."""
    stems = {str(item.get("sg_message_id") or "").partition(".")[0] for item in case["events"]} - {""}
    lifecycle.create_messages({"recipient_email": "a@example.com", "campaign_id": campaign.pk, "tracking_token": stem} for stem in stems)
    ours = [item for item in case["events"] if item.get("sg_message_id") and item["event"] != "group_resubscribe"]
    ids = {item.get("sg_event_id", f"none {index}") for index, item in enumerate(ours)}
    expected = counts(accepted=len(ids), ignored=len(case["events"]) - len(ours), duplicates=len(ours) - len(ids))
    assert post("sendgrid", case["events"]).json() == expected
    assert post("sendgrid", case["events"]).json()["rejected"] == 0
    for item in ours:
        if item.get("type") == "blocked":
            assert Message.objects.get().bounce_type == "temporary"
