from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from campaigns import lifecycle
from campaigns.apply import apply
from campaigns.events import EventKind, manual_mark
from campaigns.models import Campaign, Message
from tests.campaigns.calls import Api

pytestmark = pytest.mark.django_db

METRICS = [
    "total", "queued", "sent", "delivered", "opened", "human_opened", "unknown_opened", "clicked", "human_clicked", "bounced", "complained",
    "unsubscribed", "open_rate", "click_rate", "bounce_rate", "human_open_rate", "human_click_rate", "delivery_rate", "bounce_reasons",
]  # fmt: skip


def names(page: dict[str, Any]) -> list[str]:
    return [item["name"] for item in page["results"]]


def test_create_answers_201_with_id_name_and_time(api: Api) -> None:
    made = api.post("/api/campaigns", {"name": "Newsletter Q1 2024", "template_id": 1}, status=201)
    assert made["name"] == "Newsletter Q1 2024"
    assert Campaign.objects.get(pk=made["id"]).template_id == 1
    assert made["created_at"].endswith("Z")


def test_a_campaign_has_its_fields_in_order_and_its_metrics(api: Api, campaign: Campaign, message: Message) -> None:
    shown = api.get(f"/api/campaigns/{campaign.pk}")
    assert list(shown) == ["id", "name", "template_id", "tags", "metadata", "created_at", "archived_at", "metrics"]
    assert sorted(shown["metrics"]) == sorted(METRICS)
    assert shown["metrics"]["total"] == shown["metrics"]["queued"] == 1
    assert shown["metrics"]["open_rate"] == 0.0


def test_metrics_count_what_was_applied(api: Api, campaign: Campaign) -> None:
    messages = lifecycle.create_messages({"campaign_id": campaign.pk, "recipient_email": f"u{n}@example.com"} for n in range(4))
    ids = [message.pk for message in messages]
    apply([manual_mark(EventKind.SENT, "api", pk) for pk in ids[:3]])
    apply([manual_mark(EventKind.OPENED, "api", ids[0]), manual_mark(EventKind.BOUNCED, "api", ids[2], reason="User unknown")])
    metrics = api.get(f"/api/campaigns/{campaign.pk}")["metrics"]
    assert {name: metrics[name] for name in ("total", "queued", "sent", "opened", "bounced")} == {
        "total": 4, "queued": 1, "sent": 3, "opened": 1, "bounced": 1,
    }  # fmt: skip
    assert (metrics["open_rate"], metrics["bounce_rate"]) == (33.3, 25.0)
    assert metrics["bounce_reasons"] == {"User unknown": 1}


def test_a_list_is_an_envelope_newest_first(api: Api) -> None:
    for n in range(3):
        lifecycle.create_campaign(f"c{n}")
    page = api.get("/api/campaigns", limit=2)
    assert list(page) == ["count", "next", "previous", "results"]
    assert (page["count"], names(page), page["previous"]) == (3, ["c2", "c1"], None)
    rest = api.get(page["next"])
    assert (names(rest), rest["next"]) == (["c0"], None)
    assert "metrics" in rest["results"][0]


def test_a_list_takes_no_more_queries_with_more_campaigns(api: Api, django_assert_max_num_queries: Any) -> None:
    for n in range(20):
        campaign = lifecycle.create_campaign(f"c{n}")
        message = lifecycle.create_message("a@example.com", campaign.pk)
        apply([manual_mark(EventKind.BOUNCED, "api", message.pk, reason="full")])
    with django_assert_max_num_queries(4):
        page = api.get("/api/campaigns")
    assert [item["metrics"]["bounce_reasons"] for item in page["results"]] == [{"full": 1}] * 20


@pytest.mark.django_db(transaction=True)
def test_gets_open_no_transaction(api: Api) -> None:
    campaign = lifecycle.create_campaign("c")
    message = lifecycle.create_message("a@example.com", campaign.pk)
    apply([manual_mark(EventKind.CLICKED, "api", message.pk, url="https://example.com")])
    base = f"/api/campaigns/{campaign.pk}"
    paths = [
        "/api/campaigns",
        base,
        f"{base}/messages",
        f"{base}/timeline",
        f"{base}/links",
        "/api/messages",
        f"/api/messages/{message.pk}",
    ]
    with CaptureQueriesContext(
        connection,
    ) as captured:
        for path in [*paths, f"/api/messages/{message.pk}/events", "/api/events", "/api/dashboard/summary"]:
            api.get(path)
        b"".join(api.client.get(f"{base}/export"))  # type: ignore[call-overload]
    assert captured.captured_queries
    assert all(query["sql"].lstrip().startswith(("SELECT ", "COPY (SELECT ")) for query in captured.captured_queries)


def test_filters_narrow_the_list(api: Api) -> None:
    lifecycle.create_campaign("Spring sale", tags=["sale", "ü"], metadata={"team": "blue", "year": 2024, "vip": True, "ratio": 1.5})
    lifecycle.create_campaign("Summer sale", tags=["sales"], metadata={"team": "2024", "vip": "true", "year": "2024"})
    archived = lifecycle.create_campaign("Old", metadata={"a.b \"c'": "x", "none": None, "list": ["blue"]})
    lifecycle.update_campaign(archived, {"archived": True})

    def found(**query: str) -> list[str]:
        page = api.get("/api/campaigns", ordering="id", **query)
        assert page["count"] == len(page["results"])
        return names(page)

    assert found(name="SALE") == ["Spring sale", "Summer sale"]
    assert found(tag="sale") == ["Spring sale"]
    assert found(tag="ü") == ["Spring sale"]
    assert found(tag="sal") == []
    assert found(archived="true") == ["Old"]
    assert found(archived="false") == ["Spring sale", "Summer sale"]
    assert found() == ["Spring sale", "Summer sale", "Old"]
    assert found(**{"metadata.team": "blue"}) == ["Spring sale"]
    assert found(**{"metadata.year": "2024"}) == ["Spring sale", "Summer sale"]
    assert found(**{"metadata.team": "2024"}) == ["Summer sale"]
    assert found(**{"metadata.vip": "true"}) == ["Spring sale", "Summer sale"]
    assert found(**{"metadata.vip": "1"}) == []
    assert found(**{"metadata.ratio": "1.5"}) == ["Spring sale"]
    assert found(**{"metadata.a.b \"c'": "x"}) == ["Old"]
    assert found(**{"metadata.none": "null"}) == []
    assert found(**{"metadata.list": "blue"}) == []
    assert found(**{"metadata.team": ""}) == []
    assert found(**{"metadata.team": "blue", "metadata.year": "2025"}) == []
    assert found(**{"metadata.year": "9" * 400}) == []


def test_ordering_by_numbers_and_names(api: Api) -> None:
    for name, messages in (("b", 1), ("a", 2), ("c", 1)):
        campaign = lifecycle.create_campaign(name)
        lifecycle.create_messages({"campaign_id": campaign.pk, "recipient_email": "a@example.com"} for _ in range(messages))
    assert names(api.get("/api/campaigns", ordering="name")) == ["a", "b", "c"]
    assert names(api.get("/api/campaigns", ordering="-total")) == ["a", "c", "b"]
    assert names(api.get("/api/campaigns", ordering="total,-name")) == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("stauts=sent", "stauts"),
        ("archived=perhaps", "archived"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=²", "limit"),
        ("offset=-1", "offset"),
        ("ordering=metadata", "ordering: write one of id, -id, name, -name, created_at, -created_at, total, -total, "),
        ("ordering=name,nmae", "clicked, -clicked, bounced, -bounced, or several with commas between"),
        ("limit=99999999999999999999", "limit: write a whole number from 1 to 999999999999999999"),
        ("offset=1000000000000000000", "offset: write a whole number from 0 to 999999999999999999"),
        ("format=xml", "format: there is no such format; there are: json"),
        ("metadata.=x", "metadata."),
        ("name=%00", "name"),
        ("metadata.a=%00", "metadata.a"),
        ("metadata.%00=a", "metadata."),
        ("tag=a&tag=b", "tag"),
        ("tag=", "tag"),
        ("cursor=abc", "cursor"),
    ],
)
def test_a_parameter_that_is_wrong_or_unknown_is_refused_by_name(api: Api, query: str, word: str) -> None:
    assert word in api.refused("get", f"/api/campaigns?{query}")


def test_an_unknown_parameter_is_answered_with_those_there_are(api: Api) -> None:
    assert "archived, limit, name, offset, ordering, tag, metadata.<key>" in api.refused("get", "/api/campaigns?stauts=sent")


@pytest.mark.parametrize(("path", "formats"), [("campaigns/{}/export", "json, csv"), ("dashboard/summary", "json")])
def test_a_format_there_is_not_is_refused_with_those_there_are(api: Api, campaign: Campaign, path: str, formats: str) -> None:
    said = api.refused("get", f"/api/{path.format(campaign.pk)}?format=xml")
    assert said == f"format: there is no such format; there are: {formats}"


def test_a_limit_beyond_the_maximum_is_the_maximum(api: Api, campaign: Campaign) -> None:
    lifecycle.create_messages({"campaign_id": campaign.pk, "recipient_email": "a@example.com"} for _ in range(1001))
    page = api.get(f"/api/campaigns/{campaign.pk}/messages", limit=5000)
    assert (len(page["results"]), page["count"]) == (1000, 1001)
    assert len(api.get(page["next"])["results"]) == 1
    assert api.get(f"/api/campaigns/{campaign.pk}/messages", offset=10**18 - 1)["results"] == []


def test_patch_changes_what_it_names(api: Api, campaign: Campaign) -> None:
    path = f"/api/campaigns/{campaign.pk}"
    changed = api.patch(path, {"name": "New", "tags": ["a"], "metadata": {"k": [1]}, "template_id": None, "archived": True})
    assert (changed["name"], changed["tags"], changed["metadata"], changed["template_id"]) == ("New", ["a"], {"k": [1]}, None)
    assert changed["archived_at"].endswith("Z")
    again = api.patch(path, {"archived": False})
    assert (again["name"], again["archived_at"]) == ("New", None)
    assert api.patch(path, {}) == again == api.get(path)


@pytest.mark.parametrize(
    "body", [{"name": ""}, {"name": None}, {"archived": "yes"}, {"id": 5}, {"metrics": {}}, [], None, "x", {"tags": [""]}]
)
def test_patch_refuses_the_rest_and_changes_nothing(api: Api, campaign: Campaign, body: Any) -> None:
    path = f"/api/campaigns/{campaign.pk}"
    before = api.get(path)
    if body is not None:
        api.refused("patch", path, body)
    api.refused("patch", path, "null")
    assert api.get(path) == before


def test_a_deleted_campaign_is_gone_with_its_messages(api: Api, campaign: Campaign, message: Message) -> None:
    assert api.delete(f"/api/campaigns/{campaign.pk}") is None
    api.get(f"/api/campaigns/{campaign.pk}", 404)
    api.get(f"/api/messages/{message.pk}", 404)
    assert api.get("/api/campaigns")["count"] == api.get("/api/messages")["count"] == 0
    api.delete(f"/api/campaigns/{campaign.pk}", status=404)


@pytest.mark.parametrize("pk", ["0", "99999", "9" * 18, "9" * 19, "9" * 30, "9" * 5000, "abc", "-1", "1.5", "%00"])
@pytest.mark.parametrize(
    "path", ["campaigns/{}", "campaigns/{}/messages", "campaigns/{}/export", "campaigns/{}/timeline", "campaigns/{}/links"]
)
def test_an_id_nobody_has_is_404(api: Api, pk: str, path: str) -> None:
    api.get(f"/api/{path.format(pk)}", 404)


def test_messages_of_a_campaign_come_oldest_first_in_pages(api: Api, campaign: Campaign, message: Message) -> None:
    other = lifecycle.create_campaign("other")
    lifecycle.create_message("b@example.com", other.pk)
    later = lifecycle.create_message("c@example.com", campaign.pk)
    path = f"/api/campaigns/{campaign.pk}/messages"
    page = api.get(path, limit=20, offset=0)
    assert ([item["id"] for item in page["results"]], page["count"]) == ([message.pk, later.pk], 2)
    assert [item["id"] for item in api.get(path, limit=20, offset=1)["results"]] == [later.pk]
    assert [item["id"] for item in api.get(path, ordering="-id")["results"]] == [later.pk, message.pk]
    assert [item["id"] for item in api.get(path, recipient_email="C@Example.com")["results"]] == [later.pk]
    assert api.get(path, status="queued")["count"] == 2
    assert api.get(path, 400, campaign_id=1)["errors"][0]["field"] == "campaign_id"


def test_a_page_of_messages_counts_no_rows(api: Api, campaign: Campaign, message: Message) -> None:
    with CaptureQueriesContext(connection) as captured:
        api.get(f"/api/campaigns/{campaign.pk}/messages")
        api.get("/api/messages")
    assert not [query["sql"] for query in captured if "COUNT" in query["sql"] and '"messages"' in query["sql"]]
    assert len(captured) <= 7  # two of them are of the access rule


def test_timeline_counts_events_by_hour_and_by_day(api: Api, campaign: Campaign, message: Message) -> None:
    for hour in ("10:59:59", "10:00", "12:00"):
        api.post(f"/api/messages/{message.pk}/opened", {"opened_at": f"2024-01-15T{hour}"})
    api.post(f"/api/messages/{message.pk}/clicked", {"clicked_at": "2024-01-16T00:00:00Z"})
    path = f"/api/campaigns/{campaign.pk}/timeline"
    hours = api.get(path)
    assert hours["interval"] == "hour"
    assert [(point["at"], point["opened"], point["clicked"]) for point in hours["results"]] == [
        ("2024-01-15T10:00:00Z", 2, 0), ("2024-01-15T12:00:00Z", 1, 0), ("2024-01-16T00:00:00Z", 0, 1),
    ]  # fmt: skip
    days = api.get(path, interval="day")["results"]
    assert [(point["at"], point["opened"]) for point in days] == [("2024-01-15T00:00:00Z", 3), ("2024-01-16T00:00:00Z", 0)]
    part = api.get(path, since="2024-01-15T12:00:00", until="2024-01-15T19:00:00 02:00")["results"]  # a + that was not encoded
    assert [point["at"] for point in part] == ["2024-01-15T12:00:00Z"]
    for query in ({"interval": "week"}, {"since": "yesterday"}, {"until": "0001-01-01T00:00:00+14:00"}, {"intervall": "day"}):
        assert next(iter(query)) in api.get(path, 400, **query)["detail"]


def test_links_come_most_clicked_first(api: Api, campaign: Campaign, message: Message) -> None:
    for url in ("https://a.example/", "https://b.example/", "https://b.example/"):
        api.post(f"/api/messages/{message.pk}/clicked", {"url": url})
    page = api.get(f"/api/campaigns/{campaign.pk}/links")
    assert page["count"] == 2
    assert [(link["url"], link["click_count"], link["human_click_count"], link["position"]) for link in page["results"]] == [
        ("https://b.example/", 2, 2, None), ("https://a.example/", 1, 1, None),
    ]  # fmt: skip


def test_summary_has_the_keys_of_the_dashboard(api: Api, message: Message) -> None:
    api.post(f"/api/messages/{message.pk}/opened")
    summary = api.get("/api/dashboard/summary")
    assert {name: summary[name] for name in ("total_campaigns", "total_messages", "total_sent", "total_opened", "open_rate")} == {
        "total_campaigns": 1, "total_messages": 1, "total_sent": 1, "total_opened": 1, "open_rate": 100.0,
    }  # fmt: skip
    assert {"total_clicked", "total_bounced", "click_rate", "bounce_rate"} <= set(summary)


def test_a_trailing_slash_is_tolerated(api: Api, campaign: Campaign) -> None:
    assert api.get("/api/campaigns/")["count"] == 1
    assert api.get(f"/api/campaigns/{campaign.pk}/")["id"] == campaign.pk
