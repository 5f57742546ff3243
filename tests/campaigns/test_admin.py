from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from campaigns import lifecycle, queries
from campaigns.admin.base import BoundedPaginator
from campaigns.admin.forms import MessageForm
from campaigns.apply import apply
from campaigns.events import BounceType, EventKind, TrackingEvent, manual_mark
from campaigns.models import Campaign, DroppedEvents, Event, EventWatermark, Message
from campaigns.times import utc_now
from tracking.models import DeadLetter, IngestCount, LinkKey, SpoolPosition

START = 1_705_312_800_000  # 2024-01-15T10:00:00Z
MODELS = [model for label in ("campaigns", "tracking") for model in apps.get_app_config(label).get_models()]


def address(model: Any, page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def errors(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200
    return dict(response.context["adminform"].form.errors)


def fill(campaign: Campaign, count: int, start: int = 0) -> list[Message]:
    made = lifecycle.create_messages(
        [{"recipient_email": f"u{n}@example.com", "campaign_id": campaign.pk} for n in range(start, start + count)]
    )
    apply(
        [
            TrackingEvent(
                kind, START + message.pk * 3_600_000, "sendgrid", message_id=message.pk, external_id=f"{kind} {message.pk}", **more
            )
            for message in made
            for kind, more in (
                (EventKind.CLICKED, {"url": f"https://example.com/{message.pk}", "user_agent": f"agent {message.pk}", "ip": "192.0.2.7"}),
                (EventKind.BOUNCED, {"bounce_type": BounceType.PERMANENT, "reason": f"reason {message.pk}"}),
            )
        ]
    )
    return made


def any_row(model: Any, campaign: Campaign) -> Any:
    message = fill(campaign, 1)[0]
    apply([manual_mark(EventKind.OPENED, "api", message.pk)])
    SpoolPosition.objects.create(segment="a", position=1)
    IngestCount.objects.create(name="unknown_tokens", n=1)
    DeadLetter.objects.create(segment="a", position=1, line=b"{", error="BadLine")
    LinkKey.objects.create(key="ab" * 32)
    DroppedEvents.objects.create(before=utc_now())
    EventWatermark.objects.create(event_id=1, latest=utc_now())
    return model._default_manager.first()


# -- lists and pages


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_model_has_a_page_with_search(model: Any, admin_client: Client) -> None:
    assert admin.site.is_registered(model)
    assert admin_client.get(address(model)).status_code == 200
    if model.__name__ != "LinkKey":
        assert admin_client.get(address(model), {"q": "anything"}).status_code == 200


@pytest.mark.parametrize("model", [model for model in MODELS if model._meta.app_label == "campaigns"], ids=lambda model: model.__name__)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(model: Any, campaign: Campaign, admin_client: Client) -> None:
    counts = []
    for number, size in enumerate((1, 12)):
        for n in range(size):
            other = lifecycle.create_campaign(f"campaign {number}.{n}")
            fill(other, 2, number * 100 + n * 2)
        with CaptureQueriesContext(connection) as captured:
            response = admin_client.get(address(model))
        assert response.status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 6


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_page_can_be_opened(model: Any, campaign: Campaign, admin_client: Client) -> None:
    row = any_row(model, campaign)
    response = admin_client.get(address(model, "change", row.pk))
    assert response.status_code == 200
    assert not re.search("human_|human (open|click|n)", response.content.decode(), re.IGNORECASE)  # counts by people are not shown yet


@pytest.mark.parametrize("model", [model for model in MODELS if model not in (Campaign, Message)], ids=lambda model: model.__name__)
def test_what_the_machinery_writes_is_read_only(model: Any, campaign: Campaign, admin_client: Client) -> None:
    row = any_row(model, campaign)
    assert admin_client.get(address(model, "add")).status_code == 403
    assert admin_client.post(address(model, "change", row.pk), {}).status_code == 403
    if model is not DeadLetter:
        assert admin_client.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert model._default_manager.filter(pk=row.pk).exists()


def test_reading_opens_no_transaction(admin_client: Client, campaign: Campaign) -> None:
    fill(campaign, 1)
    for path in (address(Campaign), address(Campaign, "change", campaign.pk), address(Campaign, "delete", campaign.pk), address(Event)):
        with CaptureQueriesContext(connection) as captured:
            admin_client.get(path)
        assert all(query["sql"].startswith("SELECT") for query in captured.captured_queries), path


def test_long_tables_are_counted_to_a_bound(campaign: Campaign, admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedPaginator, "MOST", 3)
    fill(campaign, 3)
    assert "3 messages" in admin_client.get(address(Message)).content.decode()
    fill(campaign, 2, 3)
    with CaptureQueriesContext(connection) as captured:
        assert "The first 3 messages; search or filter for others" in admin_client.get(address(Message)).content.decode()
    for query in captured.captured_queries:
        if "COUNT(" in query["sql"]:
            assert "LIMIT 4" in query["sql"]


def test_messages_and_events_are_found_by_address_token_and_id(campaign: Campaign, admin_client: Client) -> None:
    fill(campaign, 3)
    message = lifecycle.create_message("Ann@Example.com", campaign.pk, tracking_token="a-token")
    apply([TrackingEvent(EventKind.OPENED, START, "hit", message_id=message.pk)])
    for term in ("ann@example.com", "a-token", str(message.pk)):
        assert list(admin_client.get(address(Message), {"q": term}).context["cl"].result_list) == [message]
        assert [event.message_id for event in admin_client.get(address(Event), {"q": term}).context["cl"].result_list] == [message.pk]
    assert not admin_client.get(address(Message), {"q": "ann"}).context["cl"].result_list
    assert not admin_client.get(address(Message), {"q": "9" * 30}).context["cl"].result_list


def test_filters(campaign: Campaign, admin_client: Client) -> None:
    old = lifecycle.update_campaign(lifecycle.create_campaign("old"), {"archived": True})
    fill(campaign, 2)
    assert list(admin_client.get(address(Campaign), {"archived": "yes"}).context["cl"].result_list) == [old]
    assert list(admin_client.get(address(Campaign), {"archived": "no"}).context["cl"].result_list) == [campaign]
    assert len(admin_client.get(address(Message), {"status__exact": "bounced"}).context["cl"].result_list) == 2
    assert len(admin_client.get(address(Message), {"status__exact": "queued"}).context["cl"].result_list) == 0
    assert len(admin_client.get(address(Event), {"kind__exact": "5"}).context["cl"].result_list) == 2
    assert len(admin_client.get(address(Message), {"campaign__id__exact": str(old.pk)}).context["cl"].result_list) == 0


def test_what_is_being_deleted_is_not_shown(campaign: Campaign, admin_client: Client) -> None:
    fill(campaign, 1)
    Campaign.objects.filter(pk=campaign.pk).update(deleted_at=START)
    for model in (Campaign, Message, Event):
        assert len(admin_client.get(address(model)).context["cl"].result_list) == 0
    assert admin_client.get(address(Campaign, "change", campaign.pk)).status_code == 302


# -- writing

CAMPAIGN = {"name": "Sale", "template_id": "", "tags": '["vip"]', "metadata": '{"owner": "Ann"}'}


def test_a_campaign_is_made_with_its_counters(admin_client: Client) -> None:
    assert admin_client.post(address(Campaign, "add"), {**CAMPAIGN, "template_id": "5"}).status_code == 302
    campaign = queries.campaigns().get()
    assert (campaign.name, campaign.template_id, campaign.tags, campaign.metadata) == ("Sale", 5, ["vip"], {"owner": "Ann"})
    assert campaign.counters.total == 0


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "", "required"),
        ("name", "a\x07b", "control characters"),
        ("name", "x" * 201, "200"),
        ("tags", '{"a": 1}', "list of texts"),
        ("tags", "[" * 5000, "valid JSON"),
        ("metadata", "[1]", "JSON object"),
        ("metadata", '{"a": "' + "x" * 4096 + '"}', "4096"),
        ("metadata", "{", "valid JSON"),
        ("template_id", "9" * 30, "less than or equal"),
    ],
)
def test_what_the_rules_refuse_is_said_at_its_field(admin_client: Client, field: str, value: str, says: str) -> None:
    found = errors(admin_client.post(address(Campaign, "add"), {**CAMPAIGN, field: value}))
    assert list(found) == [field]
    assert says in " ".join(found[field])
    assert not Campaign.objects.exists()


def test_changing_a_campaign_writes_what_was_changed_and_nothing_else(campaign: Campaign, admin_client: Client) -> None:
    body = {"name": "Renamed", "template_id": "1", "tags": "[]", "initial-tags": "[]", "metadata": "{}", "initial-metadata": "{}"}
    with CaptureQueriesContext(connection) as captured:
        assert admin_client.post(address(Campaign, "change", campaign.pk), body).status_code == 302
    writes = [query["sql"] for query in captured.captured_queries if query["sql"].startswith('UPDATE "campaigns"')]
    assert len(writes) == 1
    assert writes[0].count(" = ") == 2  # the name, and the id it is found by
    campaign.refresh_from_db()
    assert campaign.name == "Renamed"


def test_a_campaign_is_archived_by_its_form_and_by_the_list(campaign: Campaign, admin_client: Client) -> None:
    body = {"name": campaign.name, "template_id": "1", "tags": "[]", "metadata": "{}"}

    def archived() -> bool:
        return Campaign.objects.get(pk=campaign.pk).archived_at is not None

    admin_client.post(address(Campaign, "change", campaign.pk), {**body, "archived": "on"})
    assert archived()
    assert 'id="id_archived" checked' in admin_client.get(address(Campaign, "change", campaign.pk)).content.decode()
    admin_client.post(address(Campaign, "change", campaign.pk), body)
    assert not archived()
    admin_client.post(address(Campaign), {"action": "archive", "_selected_action": [campaign.pk]})
    assert archived()
    admin_client.post(address(Campaign), {"action": "bring_back", "_selected_action": [campaign.pk]})
    assert not archived()


def test_a_message_is_made_and_counted(campaign: Campaign, admin_client: Client) -> None:
    body = {
        "campaign": campaign.pk,
        "recipient_email": "a@example.com",
        "tracking_token": "",
        "template_id": "",
        "tags": "",
        "metadata": "",
    }
    assert admin_client.post(address(Message, "add"), body).status_code == 302
    message = Message.objects.get()
    assert len(message.tracking_token) == 36
    assert (message.tags, message.metadata, message.status) == ([], {}, "queued")
    assert queries.campaigns().get().counters.total == 1


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("recipient_email", "nobody", "is no e-mail address"),
        ("tracking_token", "a/b", "A tracking_token is"),
        ("tracking_token", "uuid-token", "already exists"),
        ("campaign", "4711", "valid choice"),
    ],
)
def test_a_wrong_message_is_refused_at_its_field(message: Message, admin_client: Client, field: str, value: str, says: str) -> None:
    body = {"campaign": message.campaign_id, "recipient_email": "a@example.com", "tracking_token": "t", "tags": "[]", "metadata": "{}"}
    found = errors(admin_client.post(address(Message, "add"), {**body, field: value}))
    assert says in " ".join(text for texts in found.values() for text in texts)
    assert Message.objects.count() == 1


def test_a_refusal_after_the_forms_checks_is_shown(message: Message, admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people take the same token at once: the form saw nothing."""
    monkeypatch.setattr(MessageForm, "validate_unique", lambda form: None)
    monkeypatch.setattr(Message, "validate_constraints", lambda *args, **kwargs: None)
    body = {
        "campaign": message.campaign_id,
        "recipient_email": "a@example.com",
        "tracking_token": "uuid-token",
        "tags": "[]",
        "metadata": "{}",
    }
    response = admin_client.post(address(Message, "add"), body, follow=True)
    assert "The tracking_token 'uuid-token' is taken" in html.unescape(response.content.decode())


def test_state_of_a_message_cannot_be_posted(message: Message, admin_client: Client) -> None:
    apply([TrackingEvent(EventKind.OPENED, START, "hit", message_id=message.pk)])
    body = {
        "template_id": "7",
        "tags": '["vip"]',
        "metadata": "{}",
        "status": "queued",
        "recipient_email": "evil@example.com",
        "open_count": "9",
    }
    assert admin_client.post(address(Message, "change", message.pk), body).status_code == 302
    message.refresh_from_db()
    assert (message.template_id, message.tags) == (7, ["vip"])
    assert (message.status, message.recipient_email, message.open_count) == ("opened", "user@example.com", 1)


# -- deleting


def test_the_confirmation_counts_and_collects_nothing(campaign: Campaign, admin_client: Client) -> None:
    fill(campaign, 30)
    with CaptureQueriesContext(connection) as captured:
        page = admin_client.get(address(Campaign, "delete", campaign.pk)).content.decode()
    assert "Newsletter Q1 2024: 30 messages with their events" in page
    assert not [query for query in captured.captured_queries if 'FROM "messages"' in query["sql"] or 'FROM "events"' in query["sql"]]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("bulk", [False, True])
def test_a_campaign_is_deleted_with_all_that_is_its_own(admin_client: Client, bulk: bool) -> None:
    campaign, other = lifecycle.create_campaign("one"), lifecycle.create_campaign("two")
    fill(campaign, 5)
    if bulk:
        body = {"action": "delete_selected", "_selected_action": [campaign.pk], "post": "yes"}
        assert admin_client.post(address(Campaign), body).status_code == 302
    else:
        assert admin_client.post(address(Campaign, "delete", campaign.pk), {"post": "yes"}).status_code == 302
    assert list(Campaign.objects.all()) == [other]
    assert not Message.objects.exists()
    assert not Event.objects.exists()


def test_a_message_cannot_be_deleted(message: Message, admin_client: Client) -> None:
    assert admin_client.post(address(Message, "delete", message.pk), {"post": "yes"}).status_code == 403


# -- who may


def test_the_admin_asks_for_a_sign_in_and_names_the_service(db: None, client: Client, admin_client: Client) -> None:
    index = admin_client.get("/admin/").content.decode()
    assert "Email tracking" in index
    assert '<a href="/dashboard">View site</a>' in index
    assert client.get(address(Campaign)).status_code == 302


def test_staff_without_permissions_see_nothing(client: Client, django_user_model: Any, campaign: Campaign) -> None:
    client.force_login(django_user_model.objects.create_user("bob", is_staff=True))
    assert client.get(address(Campaign)).status_code == 403
    assert client.post(address(Campaign), {"action": "archive", "_selected_action": [campaign.pk]}).status_code == 403
