from __future__ import annotations

import json
from typing import Any

import pytest

from campaigns import lifecycle
from campaigns.models import Campaign, Message
from campaigns.records import MESSAGE_FIELDS
from tests.campaigns.calls import Api

pytestmark = pytest.mark.django_db


def ids(page: dict[str, Any]) -> list[int]:
    return [item["id"] for item in page["results"]]


def test_create_answers_201_with_id_token_and_status(api: Api, campaign: Campaign) -> None:
    body = {"campaign_id": campaign.pk, "recipient_email": "user@example.com", "tracking_token": "uuid-string-here", "template_id": 1}
    made = api.post("/api/messages", body, status=201)
    assert tuple(made) == MESSAGE_FIELDS
    assert (made["tracking_token"], made["status"], made["template_id"]) == ("uuid-string-here", "queued", 1)
    assert api.get(f"/api/messages/{made['id']}") == made


def test_without_token_and_campaign_it_gets_both(api: Api) -> None:
    first = api.post("/api/messages", {"recipient_email": "a@example.com"}, status=201)
    second = api.post("/api/messages", {"recipient_email": "b@example.com", "tracking_token": None}, status=201)
    assert first["tracking_token"] != second["tracking_token"]
    assert first["campaign_id"] == second["campaign_id"]
    assert Campaign.objects.get().name == "default"


def test_a_taken_token_is_409_and_names_it(api: Api, message: Message) -> None:
    body = {"recipient_email": "b@example.com", "tracking_token": message.tracking_token}
    assert message.tracking_token in api.refused("post", "/api/messages", body, status=409)
    assert Message.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "field", "status"),
    [
        ({"campaign_id": 999}, "campaign_id", 404),
        ({"campaign_id": 2**70}, "campaign_id", 404),
        ({"campaign_id": "1"}, "campaign_id", 400),
        ({"campaign_id": True}, "campaign_id", 400),
        ({"recipient_email": "no address"}, "recipient_email", 400),
        ({"recipient_email": "a\0@example.com"}, "recipient_email", 400),
        ({"recipient_email": ["a@example.com"]}, "recipient_email", 400),
        ({"recipient_email": None}, "recipient_email", 400),
        ({"tracking_token": "a b"}, "tracking_token", 400),
        ({"tracking_token": "x.gif"}, "tracking_token", 400),
        ({"tracking_token": ""}, "tracking_token", 400),
        ({"template_id": "one"}, "template_id", 400),
        ({"template_id": 2**63}, "template_id", 400),
        ({"tags": "a"}, "tags", 400),
        ({"tags": ["\ud800"]}, "tags", 400),
        ({"metadata": []}, "metadata", 400),
        ({"metadata": {"a": "\0"}}, "metadata", 400),
        ({"metadata": {"a": "\ud800"}}, "metadata", 400),
        ({"metadata": {"a": "x" * 5000}}, "metadata", 400),
        ({"status": "sent"}, "status", 400),
        ({"a\0b": 1}, "a\0b", 400),
    ],
)
def test_a_wrong_field_is_refused_by_name(api: Api, change: dict[str, Any], field: str, status: int) -> None:
    answer = api.post("/api/messages", {"recipient_email": "a@example.com", **change}, status=status)
    assert answer["errors"][0]["field"] == field
    assert not Message.objects.exists()


def test_bulk_answers_an_array_in_the_order_sent(api: Api, campaign: Campaign) -> None:
    sent = [
        {"campaign_id": campaign.pk, "recipient_email": f"u{n}@example.com", "tags": [f"t{n}"], "metadata": {"n": n}} for n in range(300)
    ]
    made = api.post("/api/messages/bulk", sent, status=201)
    assert [(item["recipient_email"], item["tags"], item["metadata"]) for item in made] == [
        (item["recipient_email"], item["tags"], item["metadata"]) for item in sent
    ]
    assert [item["id"] for item in made] == sorted({item["id"] for item in made})
    assert api.get(f"/api/campaigns/{campaign.pk}")["metrics"]["total"] == 300


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ({"recipient_email": "no address"}, 400),
        ({"recipient_email": "a@example.com", "tracking_token": "uuid-token"}, 409),
        ({"recipient_email": "a@example.com", "tracking_token": "twice"}, 409),
        ({"recipient_email": "a@example.com", "campaign_id": 999}, 400),
        ({"recipient_email": "a@example.com", "colour": "red"}, 400),
        ("text", 400),
    ],
)
def test_bulk_makes_all_or_none(api: Api, message: Message, bad: Any, status: int) -> None:
    good = {"campaign_id": message.campaign_id, "recipient_email": "b@example.com", "tracking_token": "twice"}
    api.refused("post", "/api/messages/bulk", [good, bad], status=status)
    assert Message.objects.count() == 1
    assert api.get(f"/api/campaigns/{message.campaign_id}")["metrics"]["total"] == 1


def test_bulk_takes_ten_thousand_and_not_one_more(api: Api) -> None:
    items = [{"recipient_email": "a@example.com"}] * 10_001
    assert "10000" in api.refused("post", "/api/messages/bulk", items)
    assert len(api.post("/api/messages/bulk", items[1:], status=201)) == 10_000
    assert api.post("/api/messages/bulk", [], status=201) == []
    assert "array" in api.refused("post", "/api/messages/bulk", {"recipient_email": "a@example.com"})


def test_messages_come_newest_first_and_are_found_by_filters(api: Api, campaign: Campaign) -> None:
    other = lifecycle.create_campaign("other")
    first = lifecycle.create_message("Änne@Example.com", campaign.pk, tags=["vip"], metadata={"order": 17})
    second = lifecycle.create_message("b@example.com", other.pk)
    api.post(f"/api/messages/{second.pk}/sent")
    everything = api.get("/api/messages")
    assert (ids(everything), everything["count"]) == ([second.pk, first.pk], 2)
    assert ids(api.get("/api/messages", ordering="id")) == [first.pk, second.pk]
    assert ids(api.get("/api/messages", recipient_email="Änne@example.COM")) == [first.pk]
    assert ids(api.get("/api/messages", recipient_email="example.com")) == []
    assert ids(api.get("/api/messages", status="sent")) == [second.pk]
    assert ids(api.get("/api/messages", campaign_id=campaign.pk)) == [first.pk]
    assert ids(api.get("/api/messages", tag="vip")) == [first.pk]
    found = api.get("/api/messages", **{"metadata.order": "17", "tag": "vip"})
    assert (ids(found), found["count"]) == ([first.pk], 1)


@pytest.mark.parametrize(
    "query",
    [
        "status=lost",
        "campaign_id=one",
        "campaign_id=1.5",
        "campaign_id=9223372036854775808",
        "recipient=a@example.com",
        "ordering=recipient_email",
    ],
)
def test_a_filter_that_is_wrong_is_refused(api: Api, query: str) -> None:
    assert query.partition("=")[0] in api.refused("get", f"/api/messages?{query}")


def test_a_search_by_address_uses_its_index(db: None) -> None:
    from django.db import connection

    from campaigns.api.filters import MessageFilter

    if connection.vendor == "postgresql":
        pytest.skip("a planner with an empty table scans it")
    found = MessageFilter({"recipient_email": "A@example.com"}, queryset=Message.objects.all()).qs
    assert "idx_messages_recipient" in found.explain()


def test_pages_of_messages_take_the_same_queries_whatever_their_size(
    api: Api, campaign: Campaign, django_assert_max_num_queries: Any
) -> None:
    lifecycle.create_messages({"campaign_id": campaign.pk, "recipient_email": "a@example.com"} for _ in range(50))
    with django_assert_max_num_queries(4):
        assert len(api.get("/api/messages")["results"]) == 50
    message = Message.objects.earliest("id")
    with django_assert_max_num_queries(2):
        api.get(f"/api/messages/{message.pk}")


def test_times_have_milliseconds_only_where_they_are_not_zero(api: Api, message: Message) -> None:
    path = f"/api/messages/{message.pk}"
    assert api.post(f"{path}/sent", {"sent_at": "2024-01-15T10:36:00"})["sent_at"] == "2024-01-15T10:36:00Z"
    assert api.post(f"{path}/delivered", {"delivered_at": "2024-01-15T12:36:00.0509+02:00"})["delivered_at"] == "2024-01-15T10:36:00.050Z"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"recipient_email": NaN}', "application/json", 400),
        (b"[" * 200_000, "application/json", 400),
        (b'{"metadata":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b', "recipient_email": "a@example.com"}', "application/json", 400),
        (b"9" * 10_000, "application/json", 400),
        (b'"text"', "application/json", 400),
        (b"recipient_email=a@example.com", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b'"' + b"x" * 16 * 1024**2 + b'"', "application/json", 413),
    ],
)
def test_a_body_that_is_no_json_of_ours_is_refused(api: Api, body: bytes, content_type: str, status: int) -> None:
    for path in ("/api/messages", "/api/messages/bulk"):
        response = api.client.post(path, body, content_type=content_type)
        assert response.status_code == status, response.getvalue()[:300]
        assert response["Content-Type"] == "application/problem+json"
        assert len(response.json()["detail"]) < 300


@pytest.mark.parametrize(
    ("path", "body", "what"), [("messages", "[]", "a JSON object"), ("messages/bulk", "{}", "a JSON array of messages")]
)
def test_a_body_of_the_wrong_sort_is_told_which_is_right_and_no_field_is_at_fault(api: Api, path: str, body: str, what: str) -> None:
    answer = api.post(f"/api/{path}", body, status=400)
    assert (answer["detail"], "errors" in answer) == (f"The body must be {what}.", False)


def test_a_body_is_utf_8_whatever_its_content_type_says(api: Api) -> None:
    body = json.dumps({"recipient_email": "änne@example.com"}, ensure_ascii=False).encode()
    response = api.client.generic("POST", "/api/messages", body, content_type="application/json; charset=latin-1")
    assert response.json()["recipient_email"] == "änne@example.com"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("put", "campaigns"),
        ("post", "campaigns/1"),
        ("delete", "messages/1"),
        ("get", "messages/1/sent"),
        ("patch", "messages/bulk"),
        ("options", "events"),
    ],
)
def test_another_method_is_405_and_says_which_there_are(api: Api, method: str, path: str) -> None:
    response = getattr(api.client, method)(f"/api/{path}")
    assert (response.status_code, response["Content-Type"]) == (405, "application/problem+json")
    assert response["Allow"]
    assert method.upper() not in response["Allow"]
