"""A campaign's numbers as they are shown everywhere. The one place where a rate is computed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


class Counters(Protocol):
    """Numbers of messages: `CampaignCounters`, or the sum of many."""

    total: int
    sent: int
    delivered: int
    opened: int
    clicked: int
    bounced: int
    complained: int
    unsubscribed: int
    human_opened: int
    unknown_opened: int
    human_clicked: int


#: Bounce reasons listed one by one; the others are summed under `other`.
MAX_REASONS = 20


def rate(part: int, whole: int) -> float:
    """Per cent to one decimal; 0.0 of nothing."""
    return round(100 * part / whole, 1) if whole > 0 else 0.0


def rates(counters: Counters) -> dict[str, float]:
    """open, click, delivery and human click of sent; bounce of total; human open of those sent whose opens can be judged."""
    return {
        "open_rate": rate(counters.opened, counters.sent),
        "click_rate": rate(counters.clicked, counters.sent),
        "bounce_rate": rate(counters.bounced, counters.total),
        "human_open_rate": rate(counters.human_opened, counters.sent - counters.unknown_opened),
        "human_click_rate": rate(counters.human_clicked, counters.sent),
        "delivery_rate": rate(counters.delivered, counters.sent),
    }


def campaign_metrics(counters: Counters, reasons: Iterable[tuple[str, int]]) -> dict[str, Any]:
    """The `metrics` of a campaign. `reasons` are all (reason, messages) of it."""
    return {
        "total": counters.total,
        "queued": counters.total - counters.sent,
        "sent": counters.sent,
        "delivered": counters.delivered,
        "opened": counters.opened,
        "human_opened": counters.human_opened,
        "unknown_opened": counters.unknown_opened,
        "clicked": counters.clicked,
        "human_clicked": counters.human_clicked,
        "bounced": counters.bounced,
        "complained": counters.complained,
        "unsubscribed": counters.unsubscribed,
        **rates(counters),
        "bounce_reasons": commonest(reasons),
    }


def commonest(reasons: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The commonest reasons, and `other` only where there are more."""
    ordered = sorted(reasons, key=lambda pair: (-pair[1], pair[0]))
    listed = dict(ordered[:MAX_REASONS])
    if len(ordered) > MAX_REASONS:
        listed["other"] = listed.get("other", 0) + sum(n for _, n in ordered[MAX_REASONS:])
    return listed
