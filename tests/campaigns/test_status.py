from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.events import BounceType, EventKind, TrackingEvent, Verdict
from campaigns.status import MessageState, Status
from tests.campaigns.making import events

K, T, P = EventKind, BounceType.TEMPORARY, BounceType.PERMANENT


def event(kind: EventKind, at: int = 1000, **more: object) -> TrackingEvent:
    return TrackingEvent(kind, at, "hit", message_id=0, **more)  # type: ignore[arg-type]


def folded(*happened: TrackingEvent) -> MessageState:
    state = MessageState()
    for one in happened:
        state.fold(one)
    return state


@given(st.lists(events(1), max_size=12), st.randoms(use_true_random=False))
def test_order_of_events_does_not_matter(happened: list[TrackingEvent], chance: random.Random) -> None:
    shuffled = happened[:]
    chance.shuffle(shuffled)
    assert folded(*shuffled) == folded(*happened)


@given(st.lists(events(1), max_size=8), events(1))
def test_more_evidence_never_takes_a_step_back(happened: list[TrackingEvent], later: TrackingEvent) -> None:
    before, after = folded(*happened), folded(*happened, later)
    assert after.was_sent >= before.was_sent
    assert after.was_delivered >= before.was_delivered
    assert after.open_count >= before.open_count
    for column in ("sent_at", "delivered_at", "opened_at", "clicked_at", "complained_at", "unsubscribed_at"):
        if getattr(before, column) is not None:
            assert getattr(after, column) <= getattr(before, column)


@pytest.mark.parametrize(
    ("happened", "status"),
    [
        ([], Status.QUEUED),
        ([event(K.SENT)], Status.SENT),
        ([event(K.DEFERRED)], Status.QUEUED),
        ([event(K.DELIVERED)], Status.DELIVERED),
        ([event(K.OPENED), event(K.DELIVERED, 2000)], Status.OPENED),
        ([event(K.CLICKED)], Status.CLICKED),
        ([event(K.COMPLAINED)], Status.SENT),
        ([event(K.UNSUBSCRIBED)], Status.SENT),
        ([event(K.REPLIED)], Status.SENT),
        ([event(K.BOUNCED)], Status.BOUNCED),
        ([event(K.BOUNCED, bounce_type=P), event(K.CLICKED)], Status.BOUNCED),
        ([event(K.SENT), event(K.BOUNCED, bounce_type=T)], Status.BOUNCED),
        ([event(K.BOUNCED, bounce_type=T), event(K.DELIVERED)], Status.DELIVERED),
        ([event(K.OPENED), event(K.BOUNCED, bounce_type=T)], Status.OPENED),
        ([event(K.BOUNCED, bounce_type=T), event(K.BOUNCED, 500, bounce_type=P)], Status.BOUNCED),
    ],
)
def test_status_is_the_furthest_step_unless_a_bounce_overrules_it(happened: list[TrackingEvent], status: Status) -> None:
    assert folded(*happened).status == status


def test_a_click_does_not_imply_an_open_but_implies_sending_and_delivery() -> None:
    state = folded(event(K.CLICKED))
    assert (state.opened_at, state.open_count, state.sent_at) == (None, 0, None)
    assert state.was_sent
    assert state.was_delivered


def test_a_bounce_leaves_sent_at_empty_and_counts_as_sent() -> None:
    state = folded(event(K.BOUNCED))
    assert state.sent_at is None
    assert state.was_sent
    assert not state.was_delivered


def test_the_bounce_shown_is_permanent_before_temporary_then_the_earliest_then_the_smallest_text() -> None:
    shown = folded(
        event(K.BOUNCED, 900, bounce_type=T, reason="a"),
        event(K.BOUNCED, 1000, bounce_type=P, reason="b"),
        event(K.BOUNCED, 1000, bounce_type=P, reason="a", diagnostic_code="d"),
        event(K.BOUNCED, 2000, bounce_type=P, reason="0"),
    )
    assert (shown.bounce_type, shown.bounced_at, shown.bounce_reason, shown.diagnostic_code) == ("permanent", 1000, "a", "d")


def test_a_bounce_without_type_is_permanent_and_without_reason_counts_as_unknown() -> None:
    state = folded(event(K.BOUNCED))
    assert (state.bounce_type, state.bounce_reason, state.counted_reason()) == ("permanent", None, "unknown")


def test_first_times_are_the_earliest_reported() -> None:
    state = folded(event(K.OPENED, 3000), event(K.OPENED, 1000), event(K.OPENED, 2000))
    assert (state.opened_at, state.open_count) == (1000, 3)


@pytest.mark.parametrize(
    ("verdicts", "human", "unknown"),
    [
        ([None], 0, 0),
        ([Verdict.HUMAN], 1, 0),
        ([Verdict.PROXY], 1, 0),
        ([Verdict.PREFETCH], 0, 1),
        ([Verdict.PREFETCH, Verdict.PREFETCH], 0, 1),
        ([Verdict.PREFETCH, Verdict.HUMAN], 1, 0),
        ([Verdict.SCANNER], 0, 0),
    ],
)
def test_opens_of_people_and_of_nobody_knows_whom_are_counted_apart(verdicts: list[Verdict | None], human: int, unknown: int) -> None:
    counts = folded(*(event(K.OPENED, verdict=verdict) for verdict in verdicts)).counts()
    assert (counts[2], counts[7], counts[8]) == (1, human, unknown)
