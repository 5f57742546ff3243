"""What people report of a message by hand, checked: the same for API, command line and Python. Pure."""

from __future__ import annotations

import datetime as dt
from typing import Any

from campaigns.events import MAX_URL, BounceType, EventKind, TrackingEvent, manual_mark
from campaigns.rules import Refused
from campaigns.times import occurred_at


def checked_mark(
    source: str,
    kind: EventKind,
    message_id: int,
    *,
    at: Any = None,
    url: Any = None,
    bounce_type: Any = None,
    bounce_subtype: Any = None,
    reason: Any = None,
    diagnostic_code: Any = None,
    at_field: str = "at",
    reason_field: str = "reason",
) -> TrackingEvent:
    """The event that somebody reports, now or `at` (a datetime or ISO 8601, UTC where it has no zone). Raises Refused.

    `url` is of a click; what follows it of a bounce, which is permanent where nothing is said. The two names are what a
    refusal calls the fields.
    """
    details: dict[str, Any] = {}
    if kind is EventKind.CLICKED:
        details["url"] = _checked_url(url)
    if kind is EventKind.BOUNCED:
        details = {
            "bounce_type": _checked_bounce_type(bounce_type),
            "bounce_subtype": _checked_text(bounce_subtype, "bounce_subtype"),
            "reason": _checked_text(reason, reason_field),
            "diagnostic_code": _checked_text(diagnostic_code, "diagnostic_code"),
        }
    moment = occurred_at(at.isoformat() if isinstance(at, dt.datetime) else at, at_field)
    return manual_mark(kind, source, message_id, moment, **details)


def _checked_bounce_type(value: Any) -> BounceType:
    if value is None:
        return BounceType.PERMANENT
    if value not in list(BounceType):
        raise Refused("bounce_type is permanent or temporary", field="bounce_type")
    return BounceType(value)


def _checked_url(value: Any) -> str | None:
    url = _checked_text(value, "url")
    if url is not None and (len(url) > MAX_URL or not url.lower().startswith(("http://", "https://"))):
        raise Refused(f"url is an http or https address of at most {MAX_URL} characters", field="url")
    return url


def _checked_text(value: Any, field: str) -> str | None:
    """A text; what is longer than is kept of it is cut later."""
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value:
        raise Refused(f"{field} is a text without NUL characters", field=field)
    return value
