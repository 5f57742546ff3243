from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from campaigns.models.fields import MillisecondsField
from campaigns.times import utc_now

#: What a key may be made for: `read` for GET, `write` for every other method, `send` for handing mail over to be sent.
SCOPES = ("read", "write", "send")


def all_scopes() -> list[str]:
    return list(SCOPES)


def check_scopes(value: Any) -> None:
    """A list of at least one of SCOPES."""
    if not isinstance(value, list) or not value or any(scope not in SCOPES for scope in value):
        raise ValidationError(f"scopes are some of {', '.join(SCOPES)}")


class ApiKey(models.Model):
    """Who may use the API, and for what. Of the key itself only the prefix and a hash are kept: it is shown once, when it is made.

    A key that is no longer wanted is revoked, never deleted: that one was made ends the local rule for good. When it was
    last used is not kept, because a GET never writes.
    """

    name = models.CharField(max_length=100, help_text="Who or what uses it.")
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)  # SHA-256, hexadecimal
    scopes = models.JSONField(default=all_scopes, validators=[check_scopes])
    created_at = MillisecondsField(default=utc_now, editable=False)
    expires_at = MillisecondsField(null=True, blank=True, help_text="UTC; empty for never.")
    revoked_at = MillisecondsField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "api_keys"
        ordering = ["-id"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} (etk_{self.prefix}_…)"

    @property
    def state(self) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= utc_now() else "active"
