"""What people report of a message by hand, as events."""

from __future__ import annotations

from typing import Any

from campaigns.api.serializers import Body, BounceMark, ClickedMark, DeliveredMark, OpenedMark, SentMark
from campaigns.events import EventKind, TrackingEvent
from campaigns.marks import checked_mark
from campaigns.models import Message

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
    details = {name: body.get(name) for name in ("url", "bounce_type", "bounce_subtype", "diagnostic_code")}
    return checked_mark(
        "api",
        kind,
        message.pk,
        at=body.get(time_field),
        reason=body.get("bounce_reason"),
        at_field=time_field,
        reason_field="bounce_reason",
        **details,
    )
