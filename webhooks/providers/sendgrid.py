"""Twilio SendGrid's Event Webhook: an array of events. A single object is taken as well.

Source: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event and …/getting-started-event-webhook-security-features.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from django.conf import settings
from rest_framework.exceptions import PermissionDenied

from campaigns.events import BounceType, EventKind, TrackingEvent
from webhooks.providers.base import Malformed, Provider, Report, moment, text

SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"
#: How old or how early a signed request may be, in seconds. SendGrid signs each retry anew.
TOLERANCE = 300

#: `type` of a bounce: refused for good, or refused today ("blocked": reputation, content, a full mailbox).
BOUNCE_TYPES = {"bounce": BounceType.PERMANENT, "blocked": BounceType.TEMPORARY}
#: `bounce_type`, which SendGrid does not send, but who writes the object by hand does.
SAID_TYPES = {word.value: word for word in BounceType}
#: Beginnings of `reason` of drops that are not about the address: the same mail to it may pass another day. All others (bounced,
#: invalid, unsubscribed, has complained) are on SendGrid's suppression lists, and no retry to them will be sent.
DROPPED_FOR_NOW = ("spam content", "recipient list over package quota", "invalid smtpapi header")
#: Kinds that the recipient made, so that `ip` is theirs. With the others it is SendGrid's own.
BY_RECIPIENT = frozenset({EventKind.OPENED, EventKind.CLICKED, EventKind.UNSUBSCRIBED})

#: What SendGrid hangs on to the id of a message: `<id>.filter0001.16648.…`, `<id>.stfilter-015.…`, `<id>.recvd-5f54b5d587-…`.
_SUFFIX = re.compile(r"\.(?:st)?filter|\.recvd-")


class SendGrid(Provider):
    name = "sendgrid"
    setting = "SENDGRID_WEBHOOK_SECRET"
    kinds = {
        "processed": EventKind.SENT,  # SendGrid has it and will try to deliver it
        "deferred": EventKind.DEFERRED,
        "delivered": EventKind.DELIVERED,
        "open": EventKind.OPENED,
        "click": EventKind.CLICKED,
        "bounce": EventKind.BOUNCED,  # also of type "blocked"
        "dropped": EventKind.BOUNCED,  # never tried: the address is on one of SendGrid's lists, or the mail was refused
        "spamreport": EventKind.COMPLAINED,
        "unsubscribe": EventKind.UNSUBSCRIBED,
        "group_unsubscribe": EventKind.UNSUBSCRIBED,
        # group_resubscribe and account_status_change happen to no message
    }

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        key = settings.CONF.sendgrid_key
        if key is None:
            super().verify(headers, body)
        elif not _is_signed(key, headers.get(SIGNATURE, ""), headers.get(TIMESTAMP, ""), body):
            raise PermissionDenied(
                f"This webhook takes signed requests only: {SIGNATURE} over {TIMESTAMP} (at most {TOLERANCE} seconds off) and the body."
            )

    def read(self, item: dict[str, Any], received_at: int) -> Report | None:
        word = text(item, "event")
        kind = self.kinds.get(word.lower()) if word else None
        if word is None or kind is None:
            return None
        event = TrackingEvent(kind, moment(item, "timestamp", received_at), self.name, external_id=text(item, "sg_event_id"))
        if kind in BY_RECIPIENT:
            event.ip = text(item, "ip")
            event.user_agent = text(item, "useragent")
        if kind is EventKind.CLICKED:
            event.url = text(item, "url")
        elif kind is EventKind.OPENED and item.get("sg_machine_open") is True:
            event.headers = {"sg-machine-open": "true"}  # SendGrid's own hint, kept as evidence beside the agent
        elif kind is EventKind.DEFERRED:
            event.reason = text(item, "response") or text(item, "reason")
        elif kind is EventKind.BOUNCED:
            _read_bounce(event, item, dropped=word.lower() == "dropped")
        return Report(event, _tokens(text(item, "tracking_token"), text(item, "sg_message_id")))


def _read_bounce(event: TrackingEvent, item: Mapping[str, Any], *, dropped: bool) -> None:
    """`reason` is told as it stands. The code is the enhanced status alone, since the reason has the server's own words."""
    status, said, kind = text(item, "status"), text(item, "bounce_type"), text(item, "type")
    event.reason = text(item, "reason")
    event.diagnostic_code = text(item, "diagnostic_code") or status
    event.bounce_subtype = text(item, "bounce_subtype") or text(item, "bounce_classification")
    if said is not None:
        event.bounce_type = SAID_TYPES.get(said.lower())
        if event.bounce_type is None:
            raise Malformed("bounce_type is permanent or temporary", field="bounce_type")
    elif dropped:
        for_now = (event.reason or "").lower().startswith(DROPPED_FOR_NOW)
        event.bounce_type = BounceType.TEMPORARY if for_now else BounceType.PERMANENT
        event.bounce_subtype = event.bounce_subtype or "dropped"
    else:
        event.bounce_type = BOUNCE_TYPES.get((kind or "").lower(), BounceType.PERMANENT)
        if status is not None and status.startswith("4"):  # RFC 3463: 4.x.x is a transient failure, whatever `type` says
            event.bounce_type = BounceType.TEMPORARY


def _tokens(custom: str | None, message_id: str | None) -> Iterator[str]:
    """Under what the message may be known: the custom argument (SendGrid lifts those to the top level), then `sg_message_id`,
    whole, without SendGrid's suffix, and up to its first dot. Asynchronous bounces have neither."""
    if custom is not None:
        yield custom
    if message_id is not None:
        yield from dict.fromkeys((message_id, _SUFFIX.split(message_id, maxsplit=1)[0], message_id.partition(".")[0]))


def _is_signed(key: EllipticCurvePublicKey, signature: str, timestamp: str, body: bytes) -> bool:
    """Whether SendGrid signed this body, now. The signature covers the timestamp and every byte, the CRLF at the end too."""
    if not re.fullmatch(r"\d{1,12}", timestamp, re.ASCII) or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    try:
        key.verify(base64.b64decode(signature, validate=True), timestamp.encode() + body, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True
