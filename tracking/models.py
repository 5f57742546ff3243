from __future__ import annotations

from django.db import models

from campaigns.models.fields import MillisecondsField
from campaigns.times import utc_now


class SpoolPosition(models.Model):
    """How far a segment of the spool has been applied, in bytes. Moved in the transaction that applies: exactly once by position."""

    segment = models.CharField(max_length=80, primary_key=True)
    position = models.BigIntegerField(default=0)

    class Meta:
        db_table = "spool_positions"

    def __str__(self) -> str:
        return f"{self.segment} @ {self.position}"


class IngestCount(models.Model):
    """What ingestion counted and left no row for: `unknown_tokens` (hits on tokens nobody made), `dropped` (lost to a full disk)."""

    name = models.CharField(max_length=32, primary_key=True)
    n = models.BigIntegerField(default=0)

    class Meta:
        db_table = "ingest_counts"

    def __str__(self) -> str:
        return f"{self.name}: {self.n}"


class DeadLetter(models.Model):
    """A line of the spool that could not be applied, kept as it was with the reason, until someone replays or purges it."""

    segment = models.CharField(max_length=80)
    position = models.BigIntegerField()
    line = models.BinaryField()
    error = models.TextField()
    created_at = MillisecondsField(default=utc_now)

    class Meta:
        db_table = "dead_letters"
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.segment} @ {self.position}: {self.error}"


class LinkKey(models.Model):
    """A key that signs links. The newest signs, all verify: links in sent mail outlive a rotation."""

    key = models.CharField(max_length=64, unique=True)  # hexadecimal
    created_at = MillisecondsField(default=utc_now)

    class Meta:
        db_table = "link_keys"
        ordering = ["created_at", "id"]

    def __str__(self) -> str:
        return f"key {self.pk}"
