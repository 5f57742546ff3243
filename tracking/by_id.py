"""Campaigns and messages by their ids, for the command line and for Python: found, or refused with a sentence."""

from __future__ import annotations

import datetime as dt
from typing import Any

from campaigns import queries
from campaigns.apply import apply
from campaigns.events import EventKind
from campaigns.marks import checked_mark
from campaigns.models import Campaign, Message
from campaigns.rules import BIGGEST, Refused


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


def mark(source: str, kind: EventKind, pk: Any, at: dt.datetime | str | None = None, **details: Any) -> None:
    """Record what somebody reports of a message; `details` are those of `campaigns.marks`. Raises Refused."""
    if not _is_id(pk) or apply([checked_mark(source, kind, pk, at=at, **details)]).unknown:
        raise _unknown("message", pk)


def _is_id(pk: Any) -> bool:
    return isinstance(pk, int) and not isinstance(pk, bool) and 0 < pk <= BIGGEST


def _unknown(what: str, pk: Any) -> Refused:
    if not isinstance(pk, int) or isinstance(pk, bool):
        return Refused(f"the id of a {what} is a whole number, not {pk!r:.50}")
    return Refused(f"there is no {what} {pk}", status=404)
