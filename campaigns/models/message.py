from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.db import connections, models
from django.db.models.expressions import RawSQL
from django.db.models.functions import Lower

from campaigns.choices import STATUS_CHOICES
from campaigns.models.campaign import Campaign
from campaigns.models.fields import MillisecondsField
from campaigns.models.labels import LabelledQuerySet
from campaigns.models.rows import CampaignRows
from campaigns.status import STATE_COLUMNS, Status
from campaigns.times import utc_now


class MessageQuerySet(CampaignRows["Message"], LabelledQuerySet["Message"]):  # type: ignore[override]  # as_manager of django-stubs
    def living(self) -> MessageQuerySet:
        """Without those of campaigns that are being deleted."""
        return self.filter(campaign__deleted_at=None)

    def with_tokens(self, tokens: Iterable[str]) -> MessageQuerySet:
        """Those that have one of these tokens, any number of them: one parameter in place of thousands, a third of the time."""
        if connections[self.db].vendor == "postgresql":
            values = RawSQL("SELECT unnest(%s::text[])", [list(tokens)])
        else:
            values = RawSQL("SELECT value FROM json_each(%s)", [json.dumps(list(tokens))])
        return self.filter(tracking_token__in=values)


class Message(models.Model):
    """One mail to one recipient. The columns from `status` on are state: `apply()` alone writes them."""

    campaign = models.ForeignKey(Campaign, models.DO_NOTHING, db_index=False, related_name="messages")
    recipient_email = models.CharField(max_length=320)
    tracking_token = models.CharField(max_length=128)
    template_id = models.BigIntegerField(null=True, blank=True)
    tags = models.JSONField(default=list, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = MillisecondsField(default=utc_now, editable=False)

    status = models.CharField(max_length=16, choices=STATUS_CHOICES, default=Status.QUEUED, editable=False)
    sent_at = MillisecondsField(null=True, editable=False)
    delivered_at = MillisecondsField(null=True, editable=False)
    opened_at = MillisecondsField(null=True, editable=False)
    clicked_at = MillisecondsField(null=True, editable=False)
    replied_at = MillisecondsField(null=True, editable=False)
    bounced_at = MillisecondsField(null=True, editable=False)
    complained_at = MillisecondsField(null=True, editable=False)
    unsubscribed_at = MillisecondsField(null=True, editable=False)
    bounce_type = models.CharField(max_length=16, null=True, editable=False)
    bounce_subtype = models.CharField(max_length=100, null=True, editable=False)
    bounce_reason = models.TextField(null=True, editable=False)
    diagnostic_code = models.TextField(null=True, editable=False)
    open_count = models.PositiveIntegerField(default=0, editable=False)
    click_count = models.PositiveIntegerField(default=0, editable=False)
    human_open_count = models.PositiveIntegerField(default=0, editable=False)
    human_click_count = models.PositiveIntegerField(default=0, editable=False)
    prefetch_open_count = models.PositiveIntegerField(default=0, editable=False)

    objects = MessageQuerySet.as_manager()

    class Meta:
        db_table = "messages"
        ordering = ["-id"]
        # A unique *field* would bring PostgreSQL a second index (varchar_pattern_ops) that nothing here reads.
        constraints = [models.UniqueConstraint(fields=["tracking_token"], name="messages_tracking_token_key")]
        indexes = [
            models.Index(fields=["campaign", "id"], name="idx_messages_campaign_id"),
            models.Index(Lower("recipient_email"), name="idx_messages_recipient"),
            # Not of `status`: PostgreSQL would then write every index of the row with each step of the message (no HOT update).
            models.Index(fields=["campaign", "bounced_at"], name="idx_messages_bounced", condition=models.Q(bounced_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.recipient_email} ({self.status})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            fields = kwargs.get("update_fields")
            if fields is None or set(fields) & set(STATE_COLUMNS):
                raise ValueError("name the fields, none of them state: only apply() writes a message's state")
        super().save(*args, **kwargs)
