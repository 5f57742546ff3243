"""Bounces of mail sent through Gmail, reported by hand or by a script."""

from __future__ import annotations

from typing import Any

import pytest

from campaigns.models import Campaign, Event, Message
from campaigns.times import utc_now
from tests.webhooks.conftest import Post, counts, problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def report(message: Message) -> dict[str, Any]:
    return {
        "message_id": message.pk,
        "status": "permanent-failure",
        "reason": "User unknown",
        "diagnostic_code": "smtp; 550 5.1.1 user unknown",
    }


def test_a_permanent_failure_is_a_permanent_bounce(post: Post, report: dict[str, Any], message: Message) -> None:
    assert post("gmail", report).json() == counts(accepted=1)
    message.refresh_from_db()
    assert (message.status, message.bounce_type) == ("bounced", "permanent")
    assert (message.bounce_reason, message.diagnostic_code) == ("User unknown", "smtp; 550 5.1.1 user unknown")
    assert Event.objects.get().source_word == "gmail"


def test_a_temporary_failure_is_a_temporary_bounce(post: Post, report: dict[str, Any], message: Message) -> None:
    assert post("gmail", {**report, "status": "temporary-failure"}).json() == counts(accepted=1)
    message.refresh_from_db()
    assert (message.status, message.bounce_type) == ("bounced", "temporary")


def test_a_delay_is_a_deferral_and_changes_nothing(post: Post, report: dict[str, Any], message: Message) -> None:
    assert post("gmail", {**report, "status": "delayed"}).json() == counts(accepted=1)
    message.refresh_from_db()
    assert (message.status, message.bounce_type) == ("queued", None)
    assert Event.objects.get().get_kind_display() == "deferred"


def test_the_same_report_again_is_a_duplicate_and_another_is_none(post: Post, report: dict[str, Any]) -> None:
    assert post("gmail", report).json() == counts(accepted=1)
    assert post("gmail", report).json() == counts(duplicates=1)
    assert post("gmail", {**report, "reason": "Mailbox gone"}).json() == counts(accepted=1)


def test_a_report_needs_neither_reason_nor_code(post: Post, message: Message) -> None:
    assert post("gmail", {"message_id": str(message.pk), "status": "permanent-failure"}).json() == counts(accepted=1)
    message.refresh_from_db()
    assert message.bounce_reason is None


@pytest.mark.parametrize("message_id", [999_999, "999999", -1, 0, 2**63, 10**30])
def test_an_unknown_message_is_not_found(post: Post, report: dict[str, Any], message_id: Any) -> None:
    assert "message_id" in problem(post("gmail", {**report, "message_id": message_id}), 404)


def test_a_message_of_a_deleted_campaign_is_not_found(post: Post, report: dict[str, Any], campaign: Campaign) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(deleted_at=utc_now())  # its rows are still there
    problem(post("gmail", report), 404)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", None),
        ("status", ""),
        ("status", "failed"),
        ("status", "Permanent-Failure "),
        ("status", 550),
        ("message_id", None),
        ("message_id", True),
        ("message_id", 1.5),
        ("message_id", "abc"),
        ("message_id", "1" * 50),
        ("message_id", [1]),
        ("reason", 5),
        ("diagnostic_code", {"smtp": 550}),
    ],
)
def test_a_wrong_field_is_named(post: Post, report: dict[str, Any], field: str, value: Any) -> None:
    response = post("gmail", {**report, field: value})
    assert field in problem(response, 400)
    assert response.json()["errors"][0]["field"] == field
    assert not Event.objects.exists()


@pytest.mark.parametrize("body", [b"[]", b"[{}]", b"1"])
def test_a_request_is_one_report(post: Post, body: bytes) -> None:
    assert problem(post("gmail", body), 400) == "The body is a JSON object."


@pytest.mark.parametrize("body", [b"", b"{", b"Subject: Delivery Status Notification (Failure)\r\n\r\n"])
def test_what_is_no_json_is_refused(post: Post, body: bytes) -> None:
    assert problem(post("gmail", body), 400) == "The body is no JSON."
