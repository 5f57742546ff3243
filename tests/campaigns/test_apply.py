from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaigns import lifecycle, queries
from campaigns.apply import Applied, _user_agent, apply, forget_interned
from campaigns.events import BounceType, EventKind, TrackingEvent, Verdict, manual_mark, now_ms
from campaigns.models import BounceReasonCount, Campaign, Event, ExternalEvent, Message, UserAgent
from campaigns.models.fields import pack_address
from campaigns.status import HIT_KINDS, STATE_COLUMNS, MessageState
from campaigns.times import from_ms
from tests.campaigns.making import events, snapshot

pytestmark = pytest.mark.django_db

SAME_DATABASE = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def new_campaign(messages: int = 3) -> tuple[Campaign, list[Message]]:
    campaign = lifecycle.create_campaign("property")
    return campaign, lifecycle.create_messages(
        [{"campaign_id": campaign.pk, "recipient_email": f"u{n}@example.com"} for n in range(messages)]
    )


def addressed(happened: Sequence[TrackingEvent], messages: list[Message], external: bool) -> list[TrackingEvent]:
    """The events for real messages, named by id or by token, from outside with an id of their own."""
    found = []
    for number, event in enumerate(happened):
        message = messages[event.message_id or 0]
        name = {"message_id": message.pk} if number % 2 else {"message_id": None, "token": message.tracking_token}
        found.append(dataclasses.replace(event, **name, external_id=f"{message.campaign_id}/{number}" if external else None))
    return found


def batches(items: list[TrackingEvent], chance: random.Random) -> Iterator[list[TrackingEvent]]:
    while items:
        size = chance.randint(1, len(items))
        yield items[:size]
        items = items[size:]


@SAME_DATABASE
@given(st.lists(events(), max_size=14), st.randoms(use_true_random=False))
def test_any_order_and_any_split_into_batches_ends_in_the_same_state(happened: list[TrackingEvent], chance: random.Random) -> None:
    (one, one_messages), (other, other_messages) = new_campaign(), new_campaign()
    apply(addressed(happened, one_messages, external=False))
    shuffled = addressed(happened, other_messages, external=False)
    chance.shuffle(shuffled)
    for batch in batches(shuffled, chance):
        apply(batch)
    assert snapshot(other) == snapshot(one)


@SAME_DATABASE
@given(st.lists(events(), max_size=14), st.randoms(use_true_random=False), st.booleans())
def test_states_are_those_of_the_pure_fold(happened: list[TrackingEvent], chance: random.Random, hits_first: bool) -> None:
    """Whatever else is in the batch: what only hits changed is written by a statement of its own. Of a deleted campaign nothing is."""
    (campaign, messages), (gone, others) = new_campaign(), new_campaign()
    Campaign.objects.filter(pk=gone.pk).update(deleted_at=now_ms())
    if hits_first:
        happened = sorted(happened, key=lambda event: event.kind not in HIT_KINDS)
    for batch in batches(list(happened), chance):
        lost = addressed(batch, others, external=False)
        assert apply(addressed(batch, messages, external=False) + lost) == Applied(applied=len(batch), unknown=len(lost))
    states = [MessageState() for _ in messages]
    for event in happened:
        states[event.message_id or 0].fold(event)
    for message, state in zip(Message.objects.filter(campaign=campaign).order_by("id"), states, strict=True):
        for name, value in zip(STATE_COLUMNS, state.columns(), strict=True):
            assert getattr(message, name) == (from_ms(value) if name.endswith("_at") and value is not None else value), name
    assert set(Message.objects.filter(campaign=gone).values_list("status", "open_count", "click_count")) == {("queued", 0, 0)}


@SAME_DATABASE
@given(st.lists(events(), max_size=10), st.randoms(use_true_random=False))
def test_events_from_outside_are_applied_once_however_often_they_come(happened: list[TrackingEvent], chance: random.Random) -> None:
    (one, one_messages), (other, other_messages) = new_campaign(), new_campaign()
    apply(addressed(happened, one_messages, external=True))
    repeated = addressed(happened, other_messages, external=True)
    repeated = repeated + chance.choices(repeated, k=len(repeated)) if repeated else []
    chance.shuffle(repeated)
    done = [apply(batch) for batch in batches(repeated, chance)]
    assert snapshot(other) == snapshot(one)
    assert sum(result.applied for result in done) == len(happened)
    assert sum(result.duplicates for result in done) == len(repeated) - len(happened)


@SAME_DATABASE
@given(st.lists(events(), max_size=14))
def test_counters_equal_a_recount(happened: list[TrackingEvent]) -> None:
    campaign, messages = new_campaign()
    apply(addressed(happened, messages, external=False))
    rows = list(Message.objects.filter(campaign=campaign))
    metrics = queries.campaign_metrics(queries.campaigns().filter(pk=campaign.pk))[campaign.pk]
    bounced = [row for row in rows if row.status == "bounced"]
    assert metrics["total"] == len(rows)
    assert metrics["opened"] == sum(row.opened_at is not None for row in rows)
    assert metrics["clicked"] == sum(row.clicked_at is not None for row in rows)
    assert metrics["bounced"] == len(bounced) == sum(metrics["bounce_reasons"].values())
    assert metrics["delivered"] == sum(bool(row.delivered_at or row.opened_at or row.clicked_at) for row in rows)
    assert metrics["queued"] == sum(row.status == "queued" for row in rows)
    assert metrics["human_opened"] == sum(row.human_open_count > 0 for row in rows)
    assert Event.objects.filter(campaign=campaign).count() == len(happened)
    assert sum(sum(point.counts.values()) for point in queries.timeline(campaign.pk)) == len(happened)


def test_unknown_tokens_ids_and_deleted_campaigns_are_counted_and_leave_no_row(campaign: Campaign, message: Message) -> None:
    gone = lifecycle.create_campaign("gone")
    lost = lifecycle.create_message("a@example.com", gone.pk)
    Campaign.objects.filter(pk=gone.pk).update(deleted_at=now_ms())
    result = apply(
        [
            TrackingEvent(EventKind.OPENED, now_ms(), "hit", token="nobody-made-this"),
            TrackingEvent(EventKind.OPENED, now_ms(), "hit", token=lost.tracking_token),
            TrackingEvent(EventKind.OPENED, now_ms(), "hit"),
            manual_mark(EventKind.OPENED, "api", 2**70),
            manual_mark(EventKind.OPENED, "api", 999_999),
            manual_mark(EventKind.SENT, "api", message.pk),
        ]
    )
    assert result == Applied(applied=1, duplicates=0, unknown=5)
    assert Event.objects.count() == 1


def test_an_id_of_an_event_for_nobody_is_not_noted_so_that_it_can_come_again(message: Message) -> None:
    event = TrackingEvent(EventKind.DELIVERED, now_ms(), "sendgrid", token="not-yet", external_id="e1")
    assert apply([event]).unknown == 1
    assert not ExternalEvent.objects.exists()


def test_the_same_external_id_of_two_sources_is_two_events(message: Message) -> None:
    happened = [
        TrackingEvent(EventKind.DELIVERED, now_ms(), source, message_id=message.pk, external_id="e1") for source in ("sendgrid", "gmail")
    ]
    assert apply(happened) == Applied(applied=2)


def test_long_external_ids_that_differ_at_their_end_are_told_apart(message: Message) -> None:
    happened = [TrackingEvent(EventKind.DELIVERED, now_ms(), "gmail", message_id=message.pk, external_id="x" * 300 + end) for end in "ab"]
    assert apply(happened + happened) == Applied(applied=2, duplicates=2)


def test_agents_are_stored_once_and_texts_are_cut(message: Message) -> None:
    agent = "A" * 5000 + "\0"
    hits = [TrackingEvent(EventKind.OPENED, now_ms(), "hit", message_id=message.pk, user_agent=agent, method="GET") for _ in range(3)]
    apply(hits)
    forget_interned()
    apply(hits)
    assert Event.objects.count() == 6
    assert [row.user_agent for row in UserAgent.objects.all()] == ["A" * 1024]


@pytest.mark.django_db(transaction=True)
def test_ids_that_were_looked_up_before_all_is_forgotten_are_not_remembered_after_it(message: Message) -> None:
    """A commit that a fallen database took back, seen late: the id is another agent's by then."""
    hit = TrackingEvent(EventKind.OPENED, now_ms(), "hit", message_id=message.pk, user_agent="A", method="GET")
    with transaction.atomic():
        apply([hit])
        forget_interned()
    UserAgent.objects.update(digest=b"another")
    apply([hit])
    assert UserAgent.objects.count() == 2


def test_long_texts_of_others_are_not_remembered(message: Message) -> None:
    """What a webhook reports may be as long as its body."""
    caches = pack_address, _user_agent
    before = [cache.cache_info().currsize for cache in caches]
    apply([TrackingEvent(EventKind.OPENED, now_ms(), "sendgrid", message_id=message.pk, ip="9" * 5000, user_agent="B" * 5000)])
    assert [cache.cache_info().currsize for cache in caches] == before
    assert Event.objects.values_list("ip", "user_agent__user_agent").get() == (None, "B" * 1024)


@pytest.mark.parametrize(
    ("keep", "stored"),
    [("full", ["192.0.2.77", "2001:db8:1:2::7", None]), ("truncated", ["192.0.2.0", "2001:db8:1::", None]), ("none", [None] * 3)],
)
def test_addresses_are_kept_as_the_setting_says(message: Message, settings, keep: str, stored: list[str | None]) -> None:
    settings.TRACKING_STORE_IP = keep
    apply([TrackingEvent(EventKind.OPENED, now_ms(), "hit", message_id=message.pk, ip=ip) for ip in ("192.0.2.77", "2001:db8:1:2::7", "?")])
    assert list(Event.objects.order_by("id").values_list("ip", flat=True)) == stored


def test_a_bounce_that_gives_way_takes_its_reason_from_the_report(campaign: Campaign, message: Message) -> None:
    apply([manual_mark(EventKind.BOUNCED, "api", message.pk, bounce_type=BounceType.TEMPORARY, reason="mailbox full")])
    assert list(BounceReasonCount.objects.values_list("reason", "n")) == [("mailbox full", 1)]
    apply([manual_mark(EventKind.DELIVERED, "api", message.pk)])
    assert not BounceReasonCount.objects.exists()
    message.refresh_from_db()
    assert (message.status, message.bounce_type) == ("delivered", "temporary")


def test_marks_by_hand_are_a_persons(message: Message) -> None:
    apply([manual_mark(EventKind.OPENED, "cli", message.pk)])
    judgement = Event.objects.get().judgement
    assert judgement is not None
    assert (judgement.verdict, judgement.rule, judgement.confidence) == (Verdict.HUMAN, "manual", 1.0)


def test_a_batch_is_one_transaction(message: Message) -> None:
    good = manual_mark(EventKind.OPENED, "api", message.pk)
    with pytest.raises(KeyError):
        apply([good, dataclasses.replace(good, source="nobody")])


@pytest.mark.parametrize("size", [10, 400])
def test_queries_do_not_grow_with_the_batch(size: int) -> None:
    _, messages = new_campaign(size)
    happened = [
        TrackingEvent(EventKind.OPENED, now_ms(), "hit", token=message.tracking_token, user_agent="Mozilla/5.0", method="GET")
        for message in messages
    ]
    with CaptureQueriesContext(connection) as captured:
        apply(happened)
    statements = [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]
    assert len([sql for sql in statements if sql.lstrip().startswith("SELECT")]) <= 2
    assert len({sql.lstrip()[:30] for sql in statements}) <= 8


def test_a_save_of_a_message_or_campaign_cannot_write_state(campaign: Campaign, message: Message) -> None:
    with pytest.raises(ValueError, match="state"):
        message.save()
    with pytest.raises(ValueError, match="state"):
        message.save(update_fields=["status"])
    with pytest.raises(ValueError, match="name the fields"):
        campaign.save()
