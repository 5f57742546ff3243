"""`apply()`, the only writer of message state, event rows, counters and hourly counts."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from django.conf import settings
from django.db import OperationalError, connection, transaction

from campaigns.choices import KIND_NUMBER, SOURCE_NUMBER
from campaigns.events import MAX_DIAGNOSTIC, MAX_REASON, MAX_URL, MAX_USER_AGENT, EventKind, TrackingEvent, clean_text, now_ms
from campaigns.models.fields import pack_address
from campaigns.sql import common, postgresql, sqlite
from campaigns.status import COUNTED, HIT_COLUMNS, HIT_KINDS, PEOPLE, STATE_COLUMNS, MessageState
from campaigns.times import HOUR

#: The version of the rules that judge events, stored with each verdict. Marks made by hand need none.
RULESET = ""

_UserAgent = tuple[bytes, tuple[str | None, str | None, str]]

#: Ids of interned agents that this process has seen committed, by digest (an agent with its headers may be 6 KB). Never deleted.
_user_agent_ids: dict[bytes, int] = {}
_MAX_REMEMBERED = 50_000
#: The longest text of an address. What others report may be of any length, and addresses and agents are remembered.
_MAX_ADDRESS = 60


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch, in events."""

    applied: int = 0
    duplicates: int = 0  # (source, external_id) was known
    unknown: int = 0  # no message has the token or id, or its campaign is deleted


@dataclass(slots=True)
class _Locked:
    """A message under its lock."""

    id: int
    campaign_id: int
    state: MessageState
    counts: tuple[int, ...]
    reason: str | None
    only_hits: bool = True  # what changed it in this batch


def apply(events: Sequence[TrackingEvent]) -> Applied:
    """Take a batch in: one transaction, all or nothing.

    In any order and split into any batches the same events end in the same state. Raises `OperationalError` when the database
    is away or busy (nothing is written then, call again). On PostgreSQL a deadlock is tried three times, unless a transaction
    is open already.
    """
    if not events:
        return Applied()
    tries = 1 if connection.in_atomic_block else 3
    while True:
        try:
            with transaction.atomic(savepoint=False):
                return _Batch(events).apply()
        except OperationalError as error:
            tries -= 1
            if tries == 0 or getattr(error.__cause__, "sqlstate", None) not in ("40P01", "40001"):
                raise
            time.sleep(0.05)


def forget_interned() -> None:
    """Drop what this process remembers of ids, for when the database under it has been replaced."""
    global _user_agent_ids
    _user_agent_ids = {}  # another one: who has looked into the old one may yet write into it


class _Batch:
    def __init__(self, events: Sequence[TrackingEvent]) -> None:
        self.events = events
        self.sql: ModuleType = postgresql if connection.vendor == "postgresql" else sqlite

    def apply(self) -> Applied:
        with connection.cursor() as cursor:
            by_token, by_id = self.lock(cursor)
            known = [
                (event, message)
                for event in self.events
                if (message := by_token.get(event.token) if event.message_id is None else by_id.get(event.message_id))
            ]
            fresh = self.without_duplicates(cursor, known)
            if fresh:
                for event, message in fresh:
                    message.state.fold(event)
                    if event.kind not in HIT_KINDS:
                        message.only_hits = False
                self.write_messages(cursor, {message.id: message for _, message in fresh})
                self.write_events(cursor, fresh)
        return Applied(len(fresh), len(known) - len(fresh), len(self.events) - len(known))

    def lock(self, cursor: Any) -> tuple[dict[str | None, _Locked], dict[int | None, _Locked]]:
        tokens = {event.token for event in self.events if event.message_id is None and event.token}
        ids = {event.message_id for event in self.events if event.message_id is not None and abs(event.message_id) < 2**63}
        by_token: dict[str | None, _Locked] = {}
        by_id: dict[int | None, _Locked] = {}
        for pk, campaign_id, token, *columns in self.sql.lock_messages(cursor, tokens, ids):
            message = by_id.get(pk)
            if message is None:
                state = MessageState(*columns)
                message = by_id[pk] = _Locked(pk, campaign_id, state, state.counts(), state.counted_reason())
            by_token[token] = message
        return by_token, by_id

    def without_duplicates(self, cursor: Any, known: list[tuple[TrackingEvent, _Locked]]) -> list[tuple[TrackingEvent, _Locked]]:
        keys = [None if event.external_id is None else _external_key(event) for event, _ in known]
        reported = {key for key in keys if key is not None}
        if not reported:
            return known
        new: set[tuple[int, str] | None] = {*common.new_external_events(cursor, reported, now_ms())}
        fresh = []
        for pair, key in zip(known, keys, strict=True):
            if key is None or key in new:
                fresh.append(pair)
                new.discard(key)  # the same event may come twice in one batch
        return fresh

    def write_messages(self, cursor: Any, messages: dict[int, _Locked]) -> None:
        """States, and what they change in counters and bounce reasons."""
        steps: dict[tuple[int, tuple[int, ...], tuple[int, ...]], int] = defaultdict(int)
        reasons: dict[tuple[int, str], int] = defaultdict(int)
        hit_rows, rows = [], []
        for pk in sorted(messages):
            message = messages[pk]
            state = message.state
            if message.only_hits:
                hit_rows.append((*state.hit_columns(), pk))
            else:
                rows.append((*state.columns(), pk))
            counts, reason = state.counts(), state.counted_reason()
            if counts != message.counts:
                steps[message.campaign_id, message.counts, counts] += 1
            if reason != message.reason:
                if reason is not None:
                    reasons[message.campaign_id, reason] += 1
                if message.reason is not None:
                    reasons[message.campaign_id, message.reason] -= 1
        if hit_rows:
            self.sql.write_states(cursor, HIT_COLUMNS, hit_rows)
        if rows:
            self.sql.write_states(cursor, STATE_COLUMNS, rows)
        if steps:
            common.add_counters(cursor, _deltas(steps))
        if reasons:
            common.add_reasons(cursor, reasons)

    def write_events(self, cursor: Any, fresh: list[tuple[TrackingEvent, _Locked]]) -> None:
        """Event rows, and what is counted by event: hours and links."""
        hours: dict[tuple[int, int, int], list[int]] = {}
        links: dict[tuple[int, bytes], tuple[str, str, int, int]] = {}
        link_keys: list[tuple[int, bytes] | None] = []
        for event, message in fresh:
            human = event.verdict in PEOPLE
            key = (message.campaign_id, event.occurred_at - event.occurred_at % HOUR, KIND_NUMBER[event.kind])
            count = hours.setdefault(key, [0, 0])
            count[0] += 1
            count[1] += human
            link_keys.append(
                _count_link(links, message.campaign_id, event, human) if event.kind is EventKind.CLICKED and event.url else None
            )
        common.add_hours(cursor, hours)
        keep_ip = settings.TRACKING_STORE_IP
        link_ids = common.count_links(cursor, links) if links else {}
        agents = self.user_agents(cursor, fresh)
        judgements = common.intern_judgements(cursor, {_judgement(event) for event, _ in fresh if event.verdict is not None})
        self.sql.insert_events(
            cursor,
            [
                (
                    message.id,
                    message.campaign_id,
                    KIND_NUMBER[event.kind],
                    event.occurred_at,
                    SOURCE_NUMBER[event.source],
                    agent,
                    judgements[_judgement(event)] if event.verdict is not None else None,
                    link_ids[link] if link is not None else None,
                    pack_address(event.ip, keep_ip) if event.ip and len(event.ip) <= _MAX_ADDRESS else None,
                    _detail(event),
                )
                for (event, message), agent, link in zip(fresh, agents, link_keys, strict=True)
            ],
        )

    def user_agents(self, cursor: Any, fresh: list[tuple[TrackingEvent, _Locked]]) -> list[int | None]:
        """The interned id of each event's agent, method and headers; None where an event has none of them."""
        agents = [
            (_user_agent if len(event.user_agent or "") <= MAX_USER_AGENT else _user_agent.__wrapped__)(
                event.user_agent, event.method, tuple(event.headers.items())
            )
            for event, _ in fresh
        ]
        rows = dict([agent for agent in agents if agent is not None])
        # one look at what is remembered: another thread may forget it meanwhile
        remembered = _user_agent_ids
        ids = {digest: pk for digest in rows if (pk := remembered.get(digest)) is not None}
        if missing := {digest: row for digest, row in rows.items() if digest not in ids}:
            found = common.intern_user_agents(cursor, missing)
            transaction.on_commit(lambda: _remember(remembered, found))
            ids |= found
        return [None if agent is None else ids[agent[0]] for agent in agents]


def _deltas(steps: Mapping[tuple[int, tuple[int, ...], tuple[int, ...]], int]) -> dict[int, list[int]]:
    """Changes of COUNTED by campaign, of so many messages that went from one set of counts to another: there are few such steps."""
    counters: dict[int, list[int]] = {}
    for (campaign_id, before, after), messages in steps.items():
        deltas = counters.setdefault(campaign_id, [0] * len(COUNTED))
        for index, (new, old) in enumerate(zip(after, before, strict=True)):
            deltas[index] += (new - old) * messages
    return counters


def _remember(remembered: dict[bytes, int], ids: dict[bytes, int]) -> None:
    """In what was remembered when they were looked up: where that is forgotten by now, these may be wrong too."""
    if len(remembered) + len(ids) > _MAX_REMEMBERED:
        remembered.clear()
    remembered.update(ids)


def _external_key(event: TrackingEvent) -> tuple[int, str]:
    """An id longer than the column is stood for by its digest."""
    external_id = clean_text(event.external_id, 100_000) or ""
    if len(external_id) > 255:
        external_id = "blake2b:" + hashlib.blake2b(external_id.encode(), digest_size=32).hexdigest()
    return SOURCE_NUMBER[event.source], external_id


@lru_cache(maxsize=2_000)
def _user_agent(agent: str | None, method: str | None, headers: tuple[tuple[str, str], ...]) -> _UserAgent | None:
    """Digest and row of an agent with its headers. Readers use the same programs: remembered, it takes 0.3 µs instead of 10."""
    if not agent and not headers and method is None:
        return None
    kept = {name: clean_text(value, 256) or "" for name, value in sorted(headers)}
    row = (clean_text(agent, MAX_USER_AGENT), method, json.dumps(kept))
    return hashlib.blake2b(json.dumps(row).encode(), digest_size=16).digest(), row


def _judgement(event: TrackingEvent) -> tuple[str, str, float, str]:
    return str(event.verdict), event.rule or "", event.confidence if event.confidence is not None else 1.0, RULESET


def _count_link(
    links: dict[tuple[int, bytes], tuple[str, str, int, int]], campaign_id: int, event: TrackingEvent, human: bool
) -> tuple[int, bytes]:
    url, position = clean_text(event.url, MAX_URL) or "", clean_text(event.position, 32) or ""
    key = (campaign_id, hashlib.blake2b(f"{position}\n{url}".encode(), digest_size=16).digest())
    _, _, clicks, people = links.get(key, ("", "", 0, 0))
    links[key] = (url, position, clicks + 1, people + human)
    return key


def _detail(event: TrackingEvent) -> str | None:
    if event.bounce_type is None and not (event.reason or event.diagnostic_code or event.bounce_subtype):
        return None
    detail = {
        "bounce_type": str(event.bounce_type) if event.bounce_type else None,
        "bounce_subtype": clean_text(event.bounce_subtype, 100),
        "reason": clean_text(event.reason, MAX_REASON),
        "diagnostic_code": clean_text(event.diagnostic_code, MAX_DIAGNOSTIC),
    }
    return json.dumps({name: value for name, value in detail.items() if value is not None})
