from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from campaigns import lifecycle, queries
from campaigns.apply import apply
from campaigns.events import EventKind, TrackingEvent, manual_mark, now_ms
from campaigns.models import BounceReasonCount, Campaign, CampaignCounters, Event, HourlyCount, Link, Message
from campaigns.rules import Refused

pytestmark = pytest.mark.django_db


def test_a_message_without_a_token_gets_one_of_ours_and_they_sort_in_the_order_they_were_made(campaign: Campaign) -> None:
    made = [lifecycle.create_message("a@example.com", campaign.pk).tracking_token for _ in range(5)]
    assert len(set(made)) == 5
    assert all(len(token) == 36 and token == token.lower() for token in made)
    assert [token[:6] for token in made] == sorted(token[:6] for token in made)


def test_a_message_without_a_campaign_goes_to_the_oldest_one_named_default() -> None:
    first = lifecycle.create_message("a@example.com")
    lifecycle.create_campaign("default")
    second = lifecycle.create_message("b@example.com")
    assert first.campaign_id == second.campaign_id
    assert first.campaign.name == "default"


def test_bulk_keeps_the_order_and_counts_each_campaign(campaign: Campaign) -> None:
    other = lifecycle.create_campaign("other")
    items = [{"campaign_id": (campaign.pk, other.pk, None)[n % 3], "recipient_email": f"u{n}@example.com"} for n in range(30)]
    made = lifecycle.create_messages(items)
    assert [message.recipient_email for message in made] == [item["recipient_email"] for item in items]
    assert all(message.pk for message in made)
    assert sorted(CampaignCounters.objects.values_list("total", flat=True)) == [10, 10, 10]


@pytest.mark.parametrize(
    ("item", "status", "says"),
    [
        ({"recipient_email": "nobody"}, 400, "no e-mail address"),
        ({}, 400, "recipient_email"),
        ({"recipient_email": "a@b.example", "tracking_token": "no spaces"}, 400, "tracking_token"),
        ({"recipient_email": "a@b.example", "tracking_token": "x.gif"}, 400, "tracking_token"),
        ({"recipient_email": "a@b.example", "tracking_token": ".."}, 400, "tracking_token"),
        ({"recipient_email": "a@b.example", "tracking_token": "uuid-token"}, 409, "taken"),
        ({"recipient_email": "a@b.example", "campaign_id": 2**80}, 400, "no campaign"),
        ({"recipient_email": "a@b.example", "campaign_id": True}, 400, "whole number"),
        ({"recipient_email": "a@b.example", "tags": "x"}, 400, "tags"),
        ({"recipient_email": "a@b.example", "tags": ["x"] * 3 + [str(n) for n in range(20)]}, 400, "20 are allowed"),
        ({"recipient_email": "a@b.example", "metadata": []}, 400, "JSON object"),
        ({"recipient_email": "a@b.example", "metadata": {"k": "x" * 5000}}, 400, "4096"),
        ({"recipient_email": "a@b.example", "metadata": {"k": float("nan")}}, 400, "plain JSON"),
        ({"recipient_email": "a@b.example", "template_id": 2**63}, 400, "whole number"),
        ({"recipient_email": "a@b.example", "status": "opened"}, 400, "status is no field"),
        ({"recipient_email": "a" * 320 + "@b.example"}, 400, "320"),
        ({"recipient_email": "a\0@b.example"}, 400, "no e-mail address"),
    ],
)
def test_one_bad_item_refuses_all_and_says_which(campaign: Campaign, message: Message, item: dict, status: int, says: str) -> None:
    good = {"campaign_id": campaign.pk, "recipient_email": "good@example.com"}
    with pytest.raises(Refused, match=says) as caught:
        lifecycle.create_messages([good, {"campaign_id": campaign.pk, **item}])
    assert caught.value.status == status
    assert Message.objects.count() == 1
    assert CampaignCounters.objects.get(pk=campaign.pk).total == 1


def test_a_token_twice_in_one_request_is_a_conflict(campaign: Campaign) -> None:
    item = {"campaign_id": campaign.pk, "recipient_email": "a@example.com", "tracking_token": "same"}
    with pytest.raises(Refused, match="twice") as caught:
        lifecycle.create_messages([item, item])
    assert caught.value.status == 409


def test_more_than_the_limit_at_once_is_refused_without_reading_on() -> None:
    def endless():
        while True:
            yield {"recipient_email": "a@example.com"}

    with pytest.raises(Refused, match="10000"):
        lifecycle.create_messages(endless())


def test_a_rename_writes_no_old_counters_back(campaign: Campaign, message: Message) -> None:
    stale = Campaign.objects.get(pk=campaign.pk)
    apply([manual_mark(EventKind.OPENED, "api", message.pk)])
    lifecycle.update_campaign(stale, {"name": "New name", "archived": True})
    fresh = queries.campaigns().get(pk=campaign.pk)
    assert (fresh.name, fresh.counters.opened, fresh.archived_at is not None) == ("New name", 1, True)


def test_a_change_of_a_campaign_that_was_deleted_meanwhile_is_a_404(campaign: Campaign) -> None:
    lifecycle.delete_campaign(Campaign.objects.get(pk=campaign.pk), seconds=30)
    with pytest.raises(Refused, match="no campaign") as caught:
        lifecycle.update_campaign(campaign, {"name": "late"})
    assert caught.value.status == 404


def test_a_change_of_what_cannot_be_changed_is_refused(campaign: Campaign) -> None:
    with pytest.raises(Refused, match="created_at cannot be changed"):
        lifecycle.update_campaign(campaign, {"created_at": "2024-01-01"})


def test_a_delete_takes_everything_with_it_and_frees_the_tokens(campaign: Campaign, message: Message) -> None:
    kept = lifecycle.create_message("kept@example.com", lifecycle.create_campaign("kept").pk)
    for one in (message, kept):
        apply(
            [
                TrackingEvent(EventKind.CLICKED, now_ms(), "hit", message_id=one.pk, url="https://example.com/"),
                TrackingEvent(EventKind.BOUNCED, now_ms(), "api", message_id=one.pk, reason="gone"),
            ]
        )
    lifecycle.delete_campaign(campaign, seconds=30)
    for model in (Campaign, CampaignCounters, Message, Link, BounceReasonCount):
        assert model.objects.count() == 1, model
    assert (Event.objects.count(), HourlyCount.objects.count()) == (2, 2)
    lifecycle.create_message("again@example.com", kept.campaign_id, tracking_token=message.tracking_token)


def test_a_delete_is_seen_at_once_even_when_its_rows_are_still_there(campaign: Campaign, message: Message, monkeypatch) -> None:
    monkeypatch.setattr(lifecycle, "DELETE_CHUNK", 1)
    lifecycle.create_message("b@example.com", campaign.pk)
    lifecycle.delete_campaign(campaign, seconds=0)
    assert Message.objects.count() == 1
    assert queries.summary()["total_messages"] == 0
    assert not queries.campaigns().exists()
    assert not queries.messages().exists()
    assert apply([manual_mark(EventKind.OPENED, "api", Message.objects.get().pk)]).unknown == 1
    assert sum(lifecycle.purge_deleted()) == 1
    assert not Campaign.objects.exists()


def test_a_list_of_campaigns_costs_the_same_for_few_and_many(campaign: Campaign) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as captured:
            queries.campaign_metrics(queries.campaigns()[:100])
        return len(captured)

    few = cost()
    for n in range(20):
        lifecycle.create_campaign(f"c{n}")
    assert cost() == few == 2


def test_a_message_for_a_campaign_that_is_deleted_just_now_is_refused(campaign: Campaign, monkeypatch) -> None:
    really = lifecycle._check_campaigns
    monkeypatch.setattr(lifecycle, "_check_campaigns", lambda wanted, items: None)

    def gone(*args: object, **kwargs: object) -> None:
        monkeypatch.setattr(lifecycle, "_check_campaigns", really)
        raise IntegrityError("FOREIGN KEY constraint failed")

    monkeypatch.setattr(Message.objects, "bulk_create", gone)
    with pytest.raises(Refused, match="no campaign 999") as caught:
        lifecycle.create_message("a@example.com", 999)
    assert caught.value.status == 404


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("beside", ["another delete", "events that come late"])
def test_deletes_take_turns_and_leave_no_event_behind(beside: str, monkeypatch) -> None:
    monkeypatch.setattr(lifecycle, "DELETE_CHUNK", 50)
    campaign = lifecycle.create_campaign("big")
    messages = lifecycle.create_messages([{"campaign_id": campaign.pk, "recipient_email": f"u{n}@example.com"} for n in range(400)])
    late = [manual_mark(EventKind.OPENED, "api", message.pk) for message in messages]
    raised: list[BaseException] = []

    def work(what: Callable[[], object]) -> None:
        try:
            what()
        except BaseException as error:
            raised.append(error)
        finally:
            connection.close()

    def delete() -> None:
        lifecycle.delete_campaign(campaign, seconds=30)

    def apply_late() -> None:
        for start in range(0, 400, 40):
            apply(late[start : start + 40])

    threads = [threading.Thread(target=work, args=[what]) for what in (delete, delete if beside == "another delete" else apply_late)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert raised == []
    assert (Campaign.objects.count(), Message.objects.count(), Event.objects.count()) == (0, 0, 0)


def test_many_messages_are_made_like_few(campaign: Campaign) -> None:
    items = [
        {"campaign_id": campaign.pk, "recipient_email": f"ü{n}@example.com", "tags": ["a", "b"], "metadata": {"n": n}, "template_id": n}
        for n in range(250)
    ]
    lifecycle.create_message("before@example.com", campaign.pk)
    made = lifecycle.create_messages(items)
    after = lifecycle.create_message("after@example.com", campaign.pk)
    found = list(Message.objects.filter(pk__gte=made[0].pk, pk__lte=made[-1].pk).order_by("pk"))
    assert [message.pk for message in found] == [message.pk for message in made]
    assert after.pk > made[-1].pk
    for stored, returned, item in zip(found, made, items, strict=True):
        assert all(getattr(stored, field.attname) == getattr(returned, field.attname) for field in Message._meta.concrete_fields)
        assert (stored.recipient_email, stored.metadata, stored.status) == (item["recipient_email"], item["metadata"], "queued")
    with pytest.raises(Refused, match="taken"):
        lifecycle.create_messages(
            [*items, {"campaign_id": campaign.pk, "recipient_email": "x@e.de", "tracking_token": made[3].tracking_token}]
        )
    assert CampaignCounters.objects.get(pk=campaign.pk).total == 252
