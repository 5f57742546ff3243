"""Bounce notices of mail sent through Gmail, reported by whoever reads them: one JSON object with our own message id."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from campaigns.events import BounceType, EventKind, TrackingEvent
from webhooks.providers.base import Malformed, Provider, Report, text

BOUNCE_TYPES = {"permanent-failure": BounceType.PERMANENT, "temporary-failure": BounceType.TEMPORARY}


class Gmail(Provider):
    name = "gmail"
    setting = "WEBHOOK_GMAIL_SECRET"
    single = True
    kinds = {
        "permanent-failure": EventKind.BOUNCED,
        "temporary-failure": EventKind.BOUNCED,
        "delayed": EventKind.DEFERRED,  # "Gmail will retry for 47 more hours"
    }

    def read(self, item: dict[str, Any], received_at: int) -> Report:
        status = text(item, "status") or ""
        if status not in self.kinds:
            raise Malformed(f"status is one of {', '.join(self.kinds)}", field="status")
        message_id, reason, diagnostic_code = _message_id(item), text(item, "reason"), text(item, "diagnostic_code")
        return Report(
            TrackingEvent(
                self.kinds[status],
                received_at,
                self.name,
                message_id=message_id,
                # A report has no id, and a script that reads a mailbox reads it twice: the same words are the same report.
                external_id=hashlib.blake2b(json.dumps([message_id, status, reason, diagnostic_code]).encode(), digest_size=16).hexdigest(),
                bounce_type=BOUNCE_TYPES.get(status),
                reason=reason,
                diagnostic_code=diagnostic_code,
            )
        )


def _message_id(item: dict[str, Any]) -> int:
    """A whole number, or one as text: shells quote everything."""
    value = item.get("message_id")
    if isinstance(value, str) and re.fullmatch(r"\d{1,19}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Malformed("message_id is the number of a message", field="message_id")
    return value
