"""Counting a campaign's numbers again, from its messages and events.

`apply()` and `lifecycle` keep the numbers as they change; this is the other way to the same numbers, for tests to compare
and for an operator who does not trust them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from campaigns.choices import KIND_WORD, Kind
from campaigns.models import CampaignCounters, HourlyCount
from campaigns.partitions import dropped_before
from campaigns.status import COUNTED, EVIDENCE_OF_SENDING, PEOPLE, Status
from campaigns.times import HOUR, from_ms, iso

#: What `MessageState.counts()` says of one message, of all of a campaign's.
_CONDITIONS = {
    "sent": " OR ".join(f"{column} IS NOT NULL" for column in EVIDENCE_OF_SENDING),
    "delivered": "delivered_at IS NOT NULL OR opened_at IS NOT NULL OR clicked_at IS NOT NULL",
    "opened": "opened_at IS NOT NULL",
    "clicked": "clicked_at IS NOT NULL",
    "bounced": f"status = '{Status.BOUNCED.value}'",
    "complained": "complained_at IS NOT NULL",
    "unsubscribed": "unsubscribed_at IS NOT NULL",
    "human_opened": "human_open_count > 0",
    "unknown_opened": "prefetch_open_count > 0 AND prefetch_open_count = open_count",
    "human_clicked": "human_click_count > 0",
}
_PEOPLE = ", ".join(f"'{verdict.value}'" for verdict in sorted(PEOPLE))
_HUMAN = f"COUNT(CASE WHEN j.verdict IN ({_PEOPLE}) THEN 1 END)"

_COUNTS = ", ".join(f"COUNT(CASE WHEN {_CONDITIONS[name]} THEN 1 END)" for name in COUNTED)
_MESSAGES = f"SELECT COUNT(*), {_COUNTS} FROM messages WHERE campaign_id = %s"
_REASONS = f"""
    SELECT SUBSTR(COALESCE(NULLIF(bounce_reason, ''), 'unknown'), 1, 200) AS reason, COUNT(*)
    FROM messages WHERE campaign_id = %s AND status = '{Status.BOUNCED.value}' GROUP BY 1
"""
_HOURS = f"""
    SELECT e.occurred_at - ((e.occurred_at %% {HOUR}) + {HOUR}) %% {HOUR} AS hour, e.kind, COUNT(*), {_HUMAN}
    FROM events e LEFT JOIN judgements j ON j.id = e.judgement_id WHERE e.campaign_id = %s GROUP BY 1, 2
"""
_LINKS = f"""
    SELECT e.link_id, COUNT(*), {_HUMAN}
    FROM events e LEFT JOIN judgements j ON j.id = e.judgement_id WHERE e.campaign_id = %s AND e.link_id IS NOT NULL GROUP BY 1
"""

#: name → (what is stored, what was counted)
Differences = dict[str, tuple[int, int]]
Key = tuple[Any, ...]
Numbers = tuple[int, ...]


def recount(campaign_id: int, fix: bool = True) -> Differences:
    """Count again and return what differs, by name; empty where all is right. With `fix` the stored numbers are put right.

    Nobody else changes numbers meanwhile (SQLite: nobody writes); a million messages take a second or two. Where events were dropped
    with their partitions, their hours are left as they are, and so are the links of a campaign that was clicked in those hours.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # In the order in which apply() comes to them. Who has not reached them yet adds to what is stored here.
            cursor.execute("LOCK TABLE campaign_counters, campaign_bounce_reasons, hourly_counts, links IN SHARE ROW EXCLUSIVE MODE")
        counters = CampaignCounters.objects.filter(pk=campaign_id).first()
        if counters is None:
            return {}
        found: Differences = {}
        cursor.execute(_MESSAGES, [campaign_id])
        counted = dict(zip(("total", *COUNTED), cursor.fetchone(), strict=True))
        found |= _compare("", {name: getattr(counters, name) for name in counted}, counted)
        if found and fix:
            CampaignCounters.objects.filter(pk=campaign_id).update(**counted)

        dropped = dropped_before()
        for table in _TABLES:
            if table.name == "links" and _was_clicked(campaign_id, dropped):
                continue
            cursor.execute(table.count, [campaign_id])
            actual = table.by_key(cursor.fetchall())
            cursor.execute(f"SELECT {', '.join(table.keys + table.numbers)} FROM {table.name} WHERE campaign_id = %s", [campaign_id])
            stored = table.by_key(cursor.fetchall())
            for key in sorted({*stored, *actual}):
                before, after = stored.get(key), actual.get(key)
                if before != after and not (table.name == "hourly_counts" and key[0] < dropped):
                    found |= table.differences(key, before, after)
                    if fix:
                        table.put_right(cursor, campaign_id, key, before, after)
    return found


def _was_clicked(campaign_id: int, before: int) -> bool:
    return HourlyCount.objects.filter(campaign_id=campaign_id, kind=Kind.CLICKED, hour__lt=from_ms(before)).exists()


def _compare(prefix: str, stored: Mapping[str, int], counted: Mapping[str, int]) -> Differences:
    return {prefix + name: (stored[name], counted[name]) for name in counted if stored[name] != counted[name]}


def _hour(key: Key) -> str:
    return f"{iso(from_ms(key[0]))} {KIND_WORD[key[1]]}"


@dataclass(frozen=True)
class _Table:
    """Numbers of a campaign that have rows of their own: the keys beside the campaign, the numbers, the count of them."""

    name: str
    keys: tuple[str, ...]
    numbers: tuple[str, ...]
    count: str
    label: Callable[[Key], str]
    #: Whether a row that counts nothing goes. Events name links, so those stay.
    removes: bool = True

    def by_key(self, rows: list[tuple[Any, ...]]) -> dict[Key, Numbers]:
        width = len(self.keys)
        return {row[:width]: row[width:] for row in rows}

    def differences(self, key: Key, before: Numbers | None, after: Numbers | None) -> Differences:
        none = (0,) * len(self.numbers)
        return _compare(
            f"{self.name}.{self.label(key)}.",
            dict(zip(self.numbers, before or none, strict=True)),
            dict(zip(self.numbers, after or none, strict=True)),
        )

    def put_right(self, cursor: Any, campaign_id: int, key: Key, before: Numbers | None, after: Numbers | None) -> None:
        where = " AND ".join(f"{column} = %s" for column in ("campaign_id", *self.keys))
        if after is None and self.removes:
            cursor.execute(f"DELETE FROM {self.name} WHERE {where}", [campaign_id, *key])
        elif before is None:
            columns = ("campaign_id", *self.keys, *self.numbers)
            places = ", ".join(["%s"] * len(columns))
            cursor.execute(f"INSERT INTO {self.name} ({', '.join(columns)}) VALUES ({places})", [campaign_id, *key, *(after or ())])
        else:
            changes = ", ".join(f"{number} = %s" for number in self.numbers)
            values = after or (0,) * len(self.numbers)
            cursor.execute(f"UPDATE {self.name} SET {changes} WHERE {where}", [*values, campaign_id, *key])


_TABLES = (
    _Table("campaign_bounce_reasons", ("reason",), ("n",), _REASONS, lambda key: str(key[0])),
    _Table("hourly_counts", ("hour", "kind"), ("n", "human_n"), _HOURS, _hour),
    _Table("links", ("id",), ("click_count", "human_click_count"), _LINKS, lambda key: str(key[0]), removes=False),
)
