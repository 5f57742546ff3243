from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from campaigns import lifecycle
from campaigns.apply import apply
from campaigns.models import BounceReasonCount, Campaign, CampaignCounters, HourlyCount, Link
from campaigns.recount import recount
from tests.campaigns.making import events, snapshot

pytestmark = pytest.mark.django_db


@pytest.fixture
def busy(campaign: Campaign) -> Campaign:
    messages = lifecycle.create_messages([{"campaign_id": campaign.pk, "recipient_email": f"{n}@example.com"} for n in range(3)])
    from campaigns.events import EventKind, manual_mark

    apply(
        [
            manual_mark(EventKind.OPENED, "api", messages[0].pk, 1_705_312_200_000),
            manual_mark(EventKind.CLICKED, "api", messages[0].pk, 1_705_312_200_000, url="https://example.com/"),
            manual_mark(EventKind.BOUNCED, "api", messages[1].pk, 1_705_312_200_000, reason="User unknown"),
        ]
    )
    return campaign


def test_right_numbers_differ_in_nothing(busy: Campaign) -> None:
    assert recount(busy.pk) == {}


def test_wrong_numbers_are_told_and_only_put_right_when_asked(busy: Campaign) -> None:
    before = snapshot(busy)
    CampaignCounters.objects.filter(pk=busy.pk).update(total=9, opened=0)
    BounceReasonCount.objects.update(reason="Mailbox full")
    HourlyCount.objects.filter(kind=5).delete()
    HourlyCount.objects.create(campaign=busy, hour=0, kind=1, n=4)
    Link.objects.update(click_count=5)
    told = recount(busy.pk, fix=False)
    assert told == {
        "total": (9, 3),
        "opened": (0, 1),
        "campaign_bounce_reasons.Mailbox full.n": (1, 0),
        "campaign_bounce_reasons.User unknown.n": (0, 1),
        "hourly_counts.1970-01-01T00:00:00Z sent.n": (4, 0),
        "hourly_counts.2024-01-15T09:00:00Z clicked.n": (0, 1),
        "hourly_counts.2024-01-15T09:00:00Z clicked.human_n": (0, 1),
        f"links.{Link.objects.get().pk}.click_count": (5, 1),
    }
    assert recount(busy.pk) == told
    assert recount(busy.pk) == {}
    assert snapshot(busy) == before


def test_other_campaigns_are_left_alone(busy: Campaign) -> None:
    other = lifecycle.create_campaign("other")
    CampaignCounters.objects.filter(pk=other.pk).update(total=5)
    assert recount(busy.pk) == {}
    assert CampaignCounters.objects.get(pk=other.pk).total == 5


def test_unknown_campaign_has_nothing_to_count(db: None) -> None:
    assert recount(1) == {}


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(events(), max_size=20))
def test_whatever_is_applied_counts_the_same_again(db: None, batch: list[Any]) -> None:
    campaign = lifecycle.create_campaign("any")
    made = lifecycle.create_messages([{"campaign_id": campaign.pk, "recipient_email": f"{n}@example.com"} for n in range(3)])
    for event in batch:
        event.message_id = made[event.message_id].pk
    apply(batch)
    assert recount(campaign.pk, fix=False) == {}
