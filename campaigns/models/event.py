from __future__ import annotations

from django.db import models

from campaigns.choices import SOURCE_WORD, Kind
from campaigns.models.campaign import Campaign
from campaigns.models.fields import AddressField, MillisecondsField
from campaigns.models.message import Message
from campaigns.models.rows import CampaignRows
from campaigns.times import utc_now


class UserAgent(models.Model):
    """What fetched: agent, method and the kept headers, each combination once. Events hold its id (4 bytes for up to 1 KB)."""

    digest = models.BinaryField(max_length=16, unique=True)
    user_agent = models.TextField(null=True)
    method = models.CharField(max_length=16, null=True)
    headers = models.JSONField(default=dict)

    class Meta:
        db_table = "user_agents"

    def __str__(self) -> str:
        return self.user_agent or "–"


class Judgement(models.Model):
    """What a rule made of an event, each combination once."""

    verdict = models.CharField(max_length=16)
    rule = models.CharField(max_length=64)
    confidence = models.FloatField()
    ruleset = models.CharField(max_length=32, default="")

    class Meta:
        db_table = "judgements"
        constraints = [models.UniqueConstraint(fields=["verdict", "rule", "confidence", "ruleset"], name="judgements_key")]

    def __str__(self) -> str:
        return f"{self.verdict} ({self.rule})"


class Link(models.Model):
    """A link of a campaign's mails that was clicked, with its counts; two positions in a mail are two links."""

    campaign = models.ForeignKey(Campaign, models.DO_NOTHING, db_index=False, related_name="links")
    #: Of URL and position: a URL of 8,000 bytes is too long for an index of PostgreSQL.
    digest = models.BinaryField(max_length=16)
    url = models.TextField()
    position = models.CharField(max_length=32, default="")
    click_count = models.PositiveIntegerField(default=0)
    human_click_count = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "links"
        constraints = [models.UniqueConstraint(fields=["campaign", "digest"], name="links_campaign_digest_key")]

    def __str__(self) -> str:
        return self.url


class EventQuerySet(CampaignRows["Event"]):
    pass


class Event(models.Model):
    """One thing that happened, as small as it can be stored.

    36 bytes a row on SQLite with the indexes apart, so the campaign stands beside the message, words are numbers
    (`campaigns.choices`) and texts are interned. On PostgreSQL the table is partitioned by `occurred_at` with primary key
    (id, occurred_at); Django sees `id`. No foreign key is checked by the database: `apply()` writes the rows, under a lock
    on their messages, and `lifecycle` removes them.
    """

    id = models.BigAutoField(primary_key=True)
    message = models.ForeignKey(Message, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="events")
    campaign = models.ForeignKey(Campaign, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="events")
    kind = models.PositiveSmallIntegerField(choices=Kind)
    occurred_at = MillisecondsField()
    source = models.PositiveSmallIntegerField()  # campaigns.choices.Source; no `choices` here: a new provider is no migration
    user_agent = models.ForeignKey(UserAgent, models.DO_NOTHING, db_constraint=False, db_index=False, null=True)
    judgement = models.ForeignKey(Judgement, models.DO_NOTHING, db_constraint=False, db_index=False, null=True)
    link = models.ForeignKey(Link, models.DO_NOTHING, db_constraint=False, db_index=False, null=True)
    ip = AddressField(null=True)
    #: Bounce type and texts, where there are any; null on every hit.
    detail = models.JSONField(null=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        db_table = "events"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["message"], name="idx_events_message_id"),
            models.Index(fields=["campaign"], name="idx_events_campaign_id"),
        ]

    @property
    def source_word(self) -> str:
        return SOURCE_WORD.get(self.source, str(self.source))

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.occurred_at:%Y-%m-%d %H:%M:%S}"


class ExternalEvent(models.Model):
    """The ids under which others reported events, so that a delivery that comes twice is applied once."""

    source = models.PositiveSmallIntegerField()
    external_id = models.CharField(max_length=255)
    received_at = MillisecondsField(default=utc_now)

    class Meta:
        db_table = "external_events"
        constraints = [models.UniqueConstraint(fields=["source", "external_id"], name="external_events_key")]
        indexes = [models.Index(fields=["received_at"], name="idx_external_events_received")]

    def __str__(self) -> str:
        return f"{SOURCE_WORD.get(self.source, self.source)} {self.external_id}"


class DroppedEvents(models.Model):
    """Events that occurred before a moment were dropped with their partitions: events no longer say what happened until then."""

    before = MillisecondsField()
    dropped_at = MillisecondsField(default=utc_now)

    class Meta:
        db_table = "dropped_events"

    def __str__(self) -> str:
        return f"events before {self.before:%Y-%m-%d %H:%M:%S}"


class EventWatermark(models.Model):
    """No event with this id or a smaller one occurred after `latest` (`campaigns.watermarks`)."""

    event_id = models.BigIntegerField(primary_key=True)
    latest = MillisecondsField()

    class Meta:
        db_table = "event_watermarks"

    def __str__(self) -> str:
        return f"up to {self.event_id}: {self.latest:%Y-%m-%d %H:%M:%S}"
