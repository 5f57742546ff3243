from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

from campaigns.models.fields import MillisecondsField
from campaigns.models.labels import LabelledQuerySet
from campaigns.times import utc_now

if TYPE_CHECKING:
    from campaigns.models.counters import CampaignCounters


class CampaignQuerySet(LabelledQuerySet["Campaign"]):
    def living(self) -> CampaignQuerySet:
        """Without those whose rows are being deleted."""
        return self.filter(deleted_at=None)

    def active(self) -> CampaignQuerySet:
        return self.living().filter(archived_at=None)

    def with_counters(self) -> CampaignQuerySet:
        return self.select_related("counters")


class Campaign(models.Model):
    """What messages are grouped and measured by. Its numbers are in `CampaignCounters`, so that a rename cannot write old ones back."""

    name = models.CharField(max_length=200)
    template_id = models.BigIntegerField(null=True, blank=True)
    tags = models.JSONField(default=list, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = MillisecondsField(default=utc_now, editable=False)
    archived_at = MillisecondsField(null=True, blank=True, editable=False)
    #: Set by a delete; from then on the campaign is seen nowhere, and its rows go in chunks.
    deleted_at = MillisecondsField(null=True, blank=True, editable=False)

    objects = CampaignQuerySet.as_manager()
    counters: CampaignCounters

    class Meta:
        db_table = "campaigns"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["name"], name="idx_campaigns_name"),
            models.Index(fields=["deleted_at"], name="idx_campaigns_deleted", condition=models.Q(deleted_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding and kwargs.get("update_fields") is None:
            raise ValueError("name the fields: an unnamed save of an existing campaign could write an old state back")
        super().save(*args, **kwargs)
