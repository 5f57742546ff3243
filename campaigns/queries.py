"""What readers ask: lists and summaries from counters, never by counting rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db.models import BigIntegerField, QuerySet, Sum
from django.db.models.functions import Cast

from campaigns import metrics
from campaigns.choices import KIND_WORD
from campaigns.models import BounceReasonCount, Campaign, CampaignCounters, Event, HourlyCount, Link, Message
from campaigns.models.campaign import CampaignQuerySet
from campaigns.models.event import EventQuerySet
from campaigns.models.message import MessageQuerySet
from campaigns.status import COUNTED
from campaigns.times import DAY, HOUR, from_ms
from campaigns.watermarks import id_before


@dataclass
class Totals:
    """Counters of several campaigns together (`metrics.Counters`)."""

    campaigns: int = 0
    total: int = 0
    sent: int = 0
    delivered: int = 0
    opened: int = 0
    clicked: int = 0
    bounced: int = 0
    complained: int = 0
    unsubscribed: int = 0
    human_opened: int = 0
    unknown_opened: int = 0
    human_clicked: int = 0


@dataclass
class TimelinePoint:
    """Events of one hour or day. `at` is its beginning, UTC milliseconds; `counts` by kind, kinds without events left out."""

    at: int
    counts: dict[str, int] = field(default_factory=dict)


def campaigns() -> CampaignQuerySet:
    """Living campaigns, newest first, each with its counters: one query however many messages there are."""
    return Campaign.objects.living().with_counters().order_by("-id")


def messages() -> MessageQuerySet:
    """Messages of living campaigns, newest first."""
    return Message.objects.living().order_by("-id")


def events() -> EventQuerySet:
    """Events of living campaigns, newest first, with what is interned."""
    return Event.objects.filter(campaign__deleted_at=None).select_related("user_agent", "judgement", "link").order_by("-id")


def narrowed(found: EventQuerySet, kind: int | None = None, since: int | None = None, campaign_id: int | None = None) -> EventQuerySet:
    """The same events of `found`, which was filtered by these already, for the database to find with less looking.

    A kind that never happened is known from the hourly counts; what is older than `since` (UTC milliseconds) from watermarks.
    """
    if kind is not None:
        hours = HourlyCount.objects.filter(kind=kind, n__gt=0)
        if not (hours if campaign_id is None else hours.filter(campaign_id=campaign_id)).exists():
            return found.none()
    if since is not None and (earlier := id_before(since)):
        found = found.filter(pk__gt=earlier)
    return found


def totals() -> Totals:
    """The sum over all living campaigns, archived ones too."""
    names = ("total", *COUNTED)
    row = CampaignCounters.objects.filter(campaign__deleted_at=None).aggregate(**{name: Sum(name, default=0) for name in names})
    return Totals(campaigns=Campaign.objects.living().count(), **{name: int(row[name]) for name in names})


def summary() -> dict[str, Any]:
    """What `/api/dashboard/summary` answers."""
    sums = totals()
    rates = metrics.rates(sums)
    return {
        "total_campaigns": sums.campaigns,
        "total_messages": sums.total,
        "total_sent": sums.sent,
        "total_delivered": sums.delivered,
        "total_opened": sums.opened,
        "total_clicked": sums.clicked,
        "total_bounced": sums.bounced,
        "total_complained": sums.complained,
        "total_unsubscribed": sums.unsubscribed,
        **{name: rates[name] for name in ("open_rate", "click_rate", "bounce_rate", "delivery_rate")},
    }


def bounce_reasons(campaign_ids: Iterable[int]) -> dict[int, list[tuple[str, int]]]:
    """(reason, messages) of each campaign, one query for all of them."""
    found: dict[int, list[tuple[str, int]]] = defaultdict(list)
    rows = BounceReasonCount.objects.filter(campaign_id__in=list(campaign_ids)).order_by("-n", "reason")
    for campaign_id, reason, n in rows.values_list("campaign_id", "reason", "n"):
        found[campaign_id].append((reason, n))
    return found


def campaign_metrics(campaigns: Iterable[Campaign]) -> dict[int, dict[str, Any]]:
    """`metrics` of campaigns that were read with their counters, by campaign id."""
    campaigns = list(campaigns)
    reasons = bounce_reasons(campaign.pk for campaign in campaigns)
    return {campaign.pk: metrics.campaign_metrics(campaign.counters, reasons[campaign.pk]) for campaign in campaigns}


def timeline(campaign_id: int, interval: str = "hour", since: int | None = None, until: int | None = None) -> list[TimelinePoint]:
    """Events a `hour` or `day` (UTC), oldest first, without the empty ones. `since` and `until` in milliseconds, until excluded."""
    rows = HourlyCount.objects.filter(campaign_id=campaign_id).order_by("hour", "kind")
    if since is not None:
        rows = rows.filter(hour__gte=from_ms(since))
    if until is not None:
        rows = rows.filter(hour__lt=from_ms(until))
    width = DAY if interval == "day" else HOUR
    counts: dict[int, dict[str, int]] = defaultdict(dict)
    for hour, kind, n in rows.values_list(Cast("hour", BigIntegerField()), "kind", "n"):  # as the number it is: half the time
        of_kind, word = counts[hour - hour % width], KIND_WORD[kind]
        of_kind[word] = of_kind.get(word, 0) + n
    return [TimelinePoint(at, found) for at, found in counts.items()]


def links(campaign_id: int) -> QuerySet[Link]:
    """A campaign's clicked links, most clicked first."""
    return Link.objects.filter(campaign_id=campaign_id).order_by("-click_count", "id")


def bounces(campaign_id: int | None = None) -> MessageQuerySet:
    """Bounced messages, the latest bounce first, with their campaigns."""
    bounced = Message.objects.living().filter(status="bounced", bounced_at__isnull=False)  # as the index has it
    found = bounced.select_related("campaign").order_by("-bounced_at", "-id")
    return found if campaign_id is None else found.filter(campaign_id=campaign_id)
