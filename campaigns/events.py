"""What can happen to a message: one vocabulary for our own hits, providers, API, CLI and Python. Pure: imports no Django."""

from __future__ import annotations

import enum
import time
from collections.abc import Mapping
from dataclasses import dataclass, field


class EventKind(enum.StrEnum):
    """The kinds of events, in the words of providers' own webhooks. Their order in a life is in `status.py`."""

    SENT = "sent"  # handed to the mail system
    DELIVERED = "delivered"  # the recipient's server took it
    DEFERRED = "deferred"  # the recipient's server asked to try later; changes nothing
    OPENED = "opened"  # its pixel was fetched
    CLICKED = "clicked"  # one of its links was followed
    REPLIED = "replied"  # an answer came back
    BOUNCED = "bounced"  # refused, for good or for now
    COMPLAINED = "complained"  # reported as spam (RFC 5965)
    UNSUBSCRIBED = "unsubscribed"  # asked for no more of it (RFC 8058)


class BounceType(enum.StrEnum):
    PERMANENT = "permanent"
    TEMPORARY = "temporary"


class Verdict(enum.StrEnum):
    """Who made an event. None (no verdict yet) is neither a person nor a machine."""

    HUMAN = "human"
    PROXY = "proxy"  # a person's open, fetched through their provider's image proxy
    PREFETCH = "prefetch"  # fetched ahead of any reading: may or may not have been opened
    SCANNER = "scanner"
    MACHINE = "machine"


#: Limits of what is kept of an event's texts, in characters. What is longer is cut, never refused: the event happened.
MAX_USER_AGENT = 1024
MAX_REASON = 1000
MAX_DIAGNOSTIC = 2000
MAX_URL = 8000


@dataclass(slots=True)
class TrackingEvent:
    """One thing that happened to one message.

    The message is named by `message_id`, else by `token`. `occurred_at` is UTC in integer milliseconds. `source` says who
    reported it (`campaigns.choices.Source` lists them); `external_id` is that source's own id of the event, and the pair is
    applied once only. Our own hits carry none: they are applied once by their position in the spool.
    """

    kind: EventKind
    occurred_at: int
    source: str
    message_id: int | None = None
    token: str | None = None
    external_id: str | None = None
    # who did it, for opens and clicks
    ip: str | None = None
    user_agent: str | None = None
    method: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None  # of a click
    position: str | None = None  # of the link in its mail
    # what a machine made of it
    verdict: Verdict | None = None
    rule: str | None = None
    confidence: float | None = None
    # of bounces, deferrals and complaints
    bounce_type: BounceType | None = None
    bounce_subtype: str | None = None
    reason: str | None = None
    diagnostic_code: str | None = None


def now_ms() -> int:
    """The present in the unit of every time here: integer milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def clean_text(text: str | None, limit: int) -> str | None:
    """A text as both databases can hold it: no NUL (PostgreSQL refuses it), no lone surrogate (no UTF-8), cut at the limit."""
    if not text:
        return None
    if "\0" in text:
        text = text.replace("\0", "")
    if text.isascii():
        return text[:limit] or None
    return text[:limit].encode("utf-8", "replace").decode("utf-8") or None


def manual_mark(kind: EventKind, source: str, message_id: int, occurred_at: int | None = None, **details: object) -> TrackingEvent:
    """An event that somebody reports by hand, through API, CLI or Python: a person said so, hence verdict human, rule manual."""
    at = now_ms() if occurred_at is None else occurred_at
    return TrackingEvent(
        kind,
        at,
        source,
        message_id=message_id,
        verdict=Verdict.HUMAN,
        rule="manual",
        confidence=1.0,
        **details,  # type: ignore[arg-type]
    )
