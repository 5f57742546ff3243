"""The fold: what a message's events, in whatever order they came, make of it. Pure: imports no Django.

Every field is a minimum, a sum or derived from both, so any permutation of the events, in any batches, ends in the same
state. `apply.py` loads a state, folds a batch into it and writes what changed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from campaigns.events import MAX_DIAGNOSTIC, MAX_REASON, BounceType, EventKind, TrackingEvent, Verdict, clean_text


class Status(enum.StrEnum):
    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    OPENED = "opened"
    CLICKED = "clicked"
    BOUNCED = "bounced"


@dataclass(slots=True)
class MessageState:
    """The columns of `messages` that only the fold writes, under the same names. Times are UTC milliseconds."""

    status: str = Status.QUEUED
    sent_at: int | None = None
    delivered_at: int | None = None
    opened_at: int | None = None
    clicked_at: int | None = None
    replied_at: int | None = None
    bounced_at: int | None = None
    complained_at: int | None = None
    unsubscribed_at: int | None = None
    bounce_type: str | None = None
    bounce_subtype: str | None = None
    bounce_reason: str | None = None
    diagnostic_code: str | None = None
    open_count: int = 0
    click_count: int = 0
    human_open_count: int = 0
    human_click_count: int = 0
    prefetch_open_count: int = 0

    def fold(self, event: TrackingEvent) -> None:
        """Take one event in. Order and batches do not matter; a repetition counts again (see `TrackingEvent.external_id`)."""
        first_time = FIRST_TIMES.get(event.kind)
        if first_time is not None:
            known = getattr(self, first_time)
            if known is None or event.occurred_at < known:
                setattr(self, first_time, event.occurred_at)
        if event.kind is EventKind.OPENED:
            self.open_count += 1
            self.human_open_count += event.verdict in PEOPLE
            self.prefetch_open_count += event.verdict is Verdict.PREFETCH
        elif event.kind is EventKind.CLICKED:
            self.click_count += 1
            self.human_click_count += event.verdict in PEOPLE
        elif event.kind is EventKind.BOUNCED:
            self._fold_bounce(event)
        self.status = self.current_status()._value_

    def _fold_bounce(self, event: TrackingEvent) -> None:
        """Of several bounces the one that tells most is shown: permanent before temporary, then the earliest, then the smallest text."""
        new = (
            (event.bounce_type or BounceType.PERMANENT).value,
            event.occurred_at,
            clean_text(event.reason, MAX_REASON) or "",
            clean_text(event.bounce_subtype, 100) or "",
            clean_text(event.diagnostic_code, MAX_DIAGNOSTIC) or "",
        )
        if self.bounced_at is not None:
            known = (
                self.bounce_type or "",
                self.bounced_at,
                self.bounce_reason or "",
                self.bounce_subtype or "",
                self.diagnostic_code or "",
            )
            new = min(new, known)  # "permanent" sorts before "temporary"
        self.bounce_type, self.bounced_at = new[0], new[1]
        self.bounce_reason, self.bounce_subtype, self.diagnostic_code = (text or None for text in new[2:])

    def current_status(self) -> Status:
        """The furthest step, unless a bounce overrules it.

        A temporary bounce gives way to any proof of delivery, whenever it arrives (RFC 3464 `failed` with 4.x.x is final for
        the sender's queue, yet a copy may have arrived); a permanent one gives way to nothing.
        """
        if self.bounce_type == BounceType.PERMANENT:
            return Status.BOUNCED
        if self.clicked_at is not None:
            return Status.CLICKED
        if self.opened_at is not None:
            return Status.OPENED
        if self.delivered_at is not None:
            return Status.DELIVERED
        if self.bounced_at is not None:
            return Status.BOUNCED
        return Status.SENT if self.was_sent else Status.QUEUED

    @property
    def was_sent(self) -> bool:
        """Sent, or implied by anything that only happens to sent mail."""
        return _evidence(self) != _NO_EVIDENCE

    @property
    def was_delivered(self) -> bool:
        return self.delivered_at is not None or self.opened_at is not None or self.clicked_at is not None

    def counts(self) -> tuple[int, ...]:
        """What this message adds to its campaign's counters: whether it counts, for each of COUNTED in that order."""
        return (
            _evidence(self) != _NO_EVIDENCE,
            self.opened_at is not None or self.clicked_at is not None or self.delivered_at is not None,
            self.opened_at is not None,
            self.clicked_at is not None,
            self.status == "bounced",
            self.complained_at is not None,
            self.unsubscribed_at is not None,
            self.human_open_count > 0,
            0 < self.prefetch_open_count == self.open_count,
            self.human_click_count > 0,
        )

    def columns(self) -> tuple[Any, ...]:
        """The values of STATE_COLUMNS."""
        return _all(self)

    def hit_columns(self) -> tuple[Any, ...]:
        """The values of HIT_COLUMNS."""
        return _of_hits(self)

    def counted_reason(self) -> str | None:
        """The line of the bounce report this message stands in, None when it is not bounced."""
        if self.status != Status.BOUNCED:
            return None
        return (self.bounce_reason or "unknown")[:200]


#: Verdicts that mean a person: an image proxy fetches when its user opens.
PEOPLE = frozenset({Verdict.HUMAN, Verdict.PROXY})

#: The column that holds the first time of a kind. A deferral changes and implies nothing; a bounce has rules of its own.
FIRST_TIMES = {
    EventKind.SENT: "sent_at",
    EventKind.DELIVERED: "delivered_at",
    EventKind.OPENED: "opened_at",
    EventKind.CLICKED: "clicked_at",
    EventKind.REPLIED: "replied_at",
    EventKind.COMPLAINED: "complained_at",
    EventKind.UNSUBSCRIBED: "unsubscribed_at",
}
EVIDENCE_OF_SENDING = (*FIRST_TIMES.values(), "bounced_at")
_evidence = attrgetter(*EVIDENCE_OF_SENDING)
_NO_EVIDENCE = (None,) * len(EVIDENCE_OF_SENDING)

#: The counters of a campaign that the fold drives, columns of `campaign_counters`; `total` is counted when messages are made.
COUNTED = (
    "sent", "delivered", "opened", "clicked", "bounced", "complained", "unsubscribed", "human_opened", "unknown_opened", "human_clicked",
)  # fmt: skip

STATE_COLUMNS = tuple(column.name for column in fields(MessageState))
_all = attrgetter(*STATE_COLUMNS)

#: What opens and clicks change, and nothing else of it: most of what comes, so it is written by a shorter statement.
HIT_KINDS = frozenset({EventKind.OPENED, EventKind.CLICKED})
HIT_COLUMNS = (
    "status", "opened_at", "clicked_at", "open_count", "click_count", "human_open_count", "human_click_count", "prefetch_open_count",
)  # fmt: skip
_of_hits = attrgetter(*HIT_COLUMNS)
