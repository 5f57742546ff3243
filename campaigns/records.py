"""Campaigns, messages and events as plain dictionaries: what the API, `--json` and `Database` answer, key by key."""

from __future__ import annotations

import datetime as dt
from typing import Any

from campaigns.choices import KIND_WORD, SOURCE_WORD
from campaigns.models import Campaign, Event, Link, Message
from campaigns.times import iso

#: The fields of a message, in the order of the API and of CSV.
MESSAGE_FIELDS = (
    "id", "campaign_id", "recipient_email", "tracking_token", "template_id", "tags", "metadata", "status", "created_at",
    "sent_at", "delivered_at", "opened_at", "clicked_at", "bounced_at",
    "bounce_type", "bounce_subtype", "bounce_reason", "diagnostic_code",
    "open_count", "click_count", "human_open_count", "human_click_count",
)  # fmt: skip


def campaign_record(campaign: Campaign, metrics: dict[str, Any]) -> dict[str, Any]:
    """`metrics` come from `queries.campaign_metrics`, which reads them for many campaigns at once."""
    return {
        "id": campaign.pk,
        "name": campaign.name,
        "template_id": campaign.template_id,
        "tags": campaign.tags,
        "metadata": campaign.metadata,
        "created_at": iso(campaign.created_at),
        "archived_at": _iso(campaign.archived_at),
        "metrics": metrics,
    }


def message_record(message: Message) -> dict[str, Any]:
    return {
        "id": message.pk,
        "campaign_id": message.campaign_id,
        "recipient_email": message.recipient_email,
        "tracking_token": message.tracking_token,
        "template_id": message.template_id,
        "tags": message.tags,
        "metadata": message.metadata,
        "status": str(message.status),
        "created_at": iso(message.created_at),
        "sent_at": _iso(message.sent_at),
        "delivered_at": _iso(message.delivered_at),
        "opened_at": _iso(message.opened_at),
        "clicked_at": _iso(message.clicked_at),
        "bounced_at": _iso(message.bounced_at),
        "bounce_type": message.bounce_type,
        "bounce_subtype": message.bounce_subtype,
        "bounce_reason": message.bounce_reason,
        "diagnostic_code": message.diagnostic_code,
        "open_count": message.open_count,
        "click_count": message.click_count,
        "human_open_count": message.human_open_count,
        "human_click_count": message.human_click_count,
    }


def event_record(event: Event) -> dict[str, Any]:
    """An event of `queries.events()`, which brings what is interned along."""
    judgement = event.judgement
    return {
        "id": event.pk,
        "message_id": event.message_id,
        "campaign_id": event.campaign_id,
        "kind": KIND_WORD[event.kind],
        "occurred_at": iso(event.occurred_at),
        "verdict": judgement.verdict if judgement else None,
        "rule": judgement.rule if judgement else None,
        "confidence": judgement.confidence if judgement else None,
        "ip": event.ip,
        "user_agent": event.user_agent.user_agent if event.user_agent else None,
        "url": event.link.url if event.link else None,
        "source": SOURCE_WORD.get(event.source, str(event.source)),
        "detail": event.detail,
    }


def link_record(link: Link) -> dict[str, Any]:
    return {
        "id": link.pk,
        "url": link.url,
        "position": link.position or None,
        "click_count": link.click_count,
        "human_click_count": link.human_click_count,
    }


def _iso(moment: dt.datetime | None) -> str | None:
    return None if moment is None else iso(moment)
