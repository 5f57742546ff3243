"""Campaigns and messages by their ids, for the command line and for Python: found, or refused with a sentence."""

from __future__ import annotations

import datetime as dt
from typing import Any

from campaigns import queries
from campaigns.apply import apply
from campaigns.events import MAX_URL, BounceType, EventKind, manual_mark
from campaigns.models import Campaign, Message
from campaigns.rules import Refused
from campaigns.times import occurred_at

_BIGGEST = 2**63 - 1


def campaign(pk: Any) -> Campaign:
    """The campaign with its counters. Raises Refused (404) where there is none."""
    found = queries.campaigns().filter(pk=pk).first() if _is_id(pk) else None
    if found is None:
        raise _unknown("campaign", pk)
    return found


def message(pk: Any) -> Message:
    """The message. Raises Refused (404) where there is none."""
    found = queries.messages().filter(pk=pk).first() if _is_id(pk) else None
    if found is None:
        raise _unknown("message", pk)
    return found


def mark(
    source: str,
    kind: EventKind,
    pk: Any,
    at: dt.datetime | str | None = None,
    *,
    url: str | None = None,
    reason: str | None = None,
    bounce_type: str | None = None,
    bounce_subtype: str | None = None,
    diagnostic_code: str | None = None,
) -> None:
    """Record what somebody reports of a message: now, or `at` (UTC where it has no zone). Raises Refused."""
    details: dict[str, Any] = {}
    if kind is EventKind.CLICKED:
        details["url"] = _checked_url(url)
    if kind is EventKind.BOUNCED:
        details = {
            "bounce_type": _checked_bounce_type(bounce_type),
            "reason": _text(reason, "reason"),
            "bounce_subtype": _text(bounce_subtype, "bounce_subtype"),
            "diagnostic_code": _text(diagnostic_code, "diagnostic_code"),
        }
    moment = occurred_at(at.isoformat() if isinstance(at, dt.datetime) else at, "at")
    if not _is_id(pk) or apply([manual_mark(kind, source, pk, moment, **details)]).unknown:
        raise _unknown("message", pk)


def _is_id(pk: Any) -> bool:
    return isinstance(pk, int) and not isinstance(pk, bool) and 0 < pk <= _BIGGEST


def _unknown(what: str, pk: Any) -> Refused:
    if not isinstance(pk, int) or isinstance(pk, bool):
        return Refused(f"the id of a {what} is a whole number, not {pk!r:.50}")
    return Refused(f"there is no {what} {pk}", status=404)


def _checked_bounce_type(value: str | None) -> BounceType:
    if value is None:
        return BounceType.PERMANENT
    if value not in list(BounceType):
        raise Refused("bounce_type is permanent or temporary", field="bounce_type")
    return BounceType(value)


def _checked_url(url: str | None) -> str | None:
    if url is None:
        return None
    if not isinstance(url, str) or len(url) > MAX_URL or not url.lower().startswith(("http://", "https://")) or "\0" in url:
        raise Refused(f"url is an http or https address of at most {MAX_URL} characters", field="url")
    return url


def _text(value: str | None, field: str) -> str | None:
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise Refused(f"{field} is a text without NUL characters", field=field)
    return value
