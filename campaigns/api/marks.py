"""What people report of a message by hand, as events."""

from __future__ import annotations

from typing import Any

from campaigns.api.serializers import Body, BounceMark, ClickedMark, DeliveredMark, OpenedMark, SentMark
from campaigns.events import MAX_URL, BounceType, EventKind, TrackingEvent, manual_mark
from campaigns.models import Message
from campaigns.rules import Refused
from campaigns.times import occurred_at

#: Each kind of report: what it says happened, and the field with the time of it.
MARKS: dict[type[Body], tuple[EventKind, str]] = {
    SentMark: (EventKind.SENT, "sent_at"),
    DeliveredMark: (EventKind.DELIVERED, "delivered_at"),
    OpenedMark: (EventKind.OPENED, "opened_at"),
    ClickedMark: (EventKind.CLICKED, "clicked_at"),
    BounceMark: (EventKind.BOUNCED, "bounced_at"),
}


def read(message: Message, body: dict[str, Any], shape: type[Body]) -> TrackingEvent:
    """The event that the body reports. Raises Refused."""
    kind, time_field = MARKS[shape]
    details: dict[str, Any] = {}
    if kind is EventKind.CLICKED:
        details["url"] = _url(body)
    if kind is EventKind.BOUNCED:
        details = {
            "bounce_type": _bounce_type(body),
            "reason": _text(body, "bounce_reason"),
            "bounce_subtype": _text(body, "bounce_subtype"),
            "diagnostic_code": _text(body, "diagnostic_code"),
        }
    return manual_mark(kind, "api", message.pk, occurred_at(body.get(time_field), time_field), **details)


def _bounce_type(body: dict[str, Any]) -> BounceType:
    value = body.get("bounce_type")
    if value is None:
        return BounceType.PERMANENT
    if value not in list(BounceType):
        raise Refused("bounce_type is permanent or temporary", field="bounce_type")
    return BounceType(value)


def _url(body: dict[str, Any]) -> str | None:
    url = _text(body, "url")
    if url is not None and (len(url) > MAX_URL or not url.lower().startswith(("http://", "https://"))):
        raise Refused(f"url is an http or https address of at most {MAX_URL} characters", field="url")
    return url


def _text(body: dict[str, Any], field: str) -> str | None:
    """A text; what is longer than is kept of it is cut later."""
    value = body.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or "\0" in value:
        raise Refused(f"{field} is a text without NUL characters", field=field)
    return value
