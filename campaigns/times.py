"""Moments as people and programs write them: ISO 8601, UTC. Pure."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from campaigns.events import now_ms
from campaigns.rules import Refused

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MILLISECOND = dt.timedelta(milliseconds=1)
#: In milliseconds, as every time in database, spool and events.
HOUR = 3_600_000
DAY = 24 * HOUR
#: A clock may be wrong by this much; what is later cannot have happened. Milliseconds.
MAX_AHEAD = DAY
#: The `+` of an offset that an address did not encode arrives as a space.
_LOST_PLUS = re.compile(r"(\d\d:\d\d\S*) (\d\d:?\d\d)$")


def to_ms(moment: dt.datetime) -> int:
    """Milliseconds since 1970 UTC; a moment without a zone is UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - EPOCH) // MILLISECOND


def from_ms(milliseconds: int) -> dt.datetime:
    """The moment, in UTC."""
    return EPOCH + milliseconds * MILLISECOND


def utc_now() -> dt.datetime:
    """The present to the millisecond, which is all the database keeps."""
    return from_ms(now_ms())


def iso(moment: dt.datetime) -> str:
    """`2024-01-15T10:30:00Z`; `…10:30:00.250Z` where there are milliseconds."""
    precision = "milliseconds" if moment.microsecond >= 1000 else "seconds"
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


class IsoTexts(dict[int | None, str]):
    """The ISO 8601 text of milliseconds since 1970, "" of None; each is worked out once. For many rows at a time.

    Four times as fast as `iso()`, and rows written together share their times.
    """

    def __init__(self) -> None:
        super().__init__({None: ""})
        self._days: dict[int, str] = {}

    def __missing__(self, key: int | None) -> str:
        day, rest = divmod(int(key or 0), DAY)
        if day not in self._days:
            self._days[day] = (EPOCH + dt.timedelta(days=day)).date().isoformat()
        seconds, milliseconds = divmod(rest, 1000)
        text = f"{self._days[day]}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        text = self[key] = f"{text}.{milliseconds:03}Z" if milliseconds else f"{text}Z"
        return text


def parse_moment(value: Any) -> dt.datetime:
    """The moment a text names, in UTC; without a zone it is UTC, without a time midnight. Raises ValueError with a sentence."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        moment = dt.datetime.fromisoformat(_LOST_PLUS.sub(r"\1+\2", text))
        moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise ValueError("write a date and time such as 2024-01-15T10:30:00Z, or a date alone") from None
    if moment < EPOCH:
        raise ValueError("times begin in 1970")
    return moment


def occurred_at(value: Any, field: str) -> int | None:
    """When somebody says an event happened, in UTC milliseconds; None where they do not say. Raises Refused."""
    if value is None:
        return None
    try:
        milliseconds = to_ms(parse_moment(value))
    except ValueError as error:
        raise Refused(f"{field}: {error}", field=field) from None
    if milliseconds > now_ms() + MAX_AHEAD:
        raise Refused(f"{field} is more than 24 hours ahead", field=field)
    return milliseconds
