"""What is counted in shared memory, and how it is called at `/metrics`. Pure."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from tracking.metrics.shared import Counters

_BETWEEN = "\t"


def split(name: str) -> list[str]:
    """The family of a number in shared memory, and its labels."""
    return name.split(_BETWEEN)


@dataclass(frozen=True)
class CounterFamily:
    """A counter with labels. `name` lacks the `_total` that Prometheus puts behind it."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    #: Labels of numbers that are shown before there is anything to count: a rate needs the zero that it grows from.
    usual: tuple[tuple[str, ...], ...] = ()

    def of(self, *values: str) -> str:
        """The name in shared memory of one of its numbers."""
        return _BETWEEN.join((self.name, *values))


@dataclass(frozen=True)
class HistogramFamily:
    """A histogram of seconds, kept in whole microseconds."""

    name: str
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]

    def observe(self, counters: Counters, seconds: float, *values: str) -> None:
        bucket = bisect_left(self.bounds, seconds)
        counters.add(self.bucket(bucket, *values))
        counters.add(self.sum(*values), int(seconds * 1e6))

    def bucket(self, number: int, *values: str) -> str:
        """The name of the number of those above the bound before and not above this one; not cumulative, as shared memory has it."""
        return _BETWEEN.join((self.name, *values, str(number)))

    def sum(self, *values: str) -> str:
        return _BETWEEN.join((self.name, *values, "sum"))


HITS = CounterFamily(
    "tracking_hits",
    "Requests for pixels and links that were answered, by class of status.",
    ("kind", "status"),
    (("pixel", "2xx"), ("redirect", "3xx"), ("redirect", "4xx")),
)
LOST = CounterFamily("tracking_hits_dropped", "Hits that were answered but not written down: the disk was full or failed.", (), ((),))
INGESTED = CounterFamily(
    "tracking_ingest_events",
    "Hits taken into the database by this node: applied, of an unknown token, or put with the dead letters.",
    ("outcome",),
    (("applied",), ("unknown",), ("dead_letter",)),
)
LAG = HistogramFamily(
    "tracking_ingest_lag_seconds",
    "From a hit to its commit in the database: the first of each batch.",
    (),
    (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
WEBHOOK_ITEMS = CounterFamily("tracking_webhook_items", "Items in webhooks, by what became of them.", ("provider", "outcome"))
REQUESTS = CounterFamily("tracking_http_requests", "Requests that were answered, but for hits.", ("route", "method", "status"))
DURATION = HistogramFamily(
    "tracking_http_request_duration_seconds",
    "From a request to the head of its answer, but for hits.",
    ("route",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
COUNTERS = (HITS, LOST, INGESTED, WEBHOOK_ITEMS, REQUESTS)
HISTOGRAMS = (LAG, DURATION)

#: Hits lost and not yet said in a segment; falls when they are.
UNSAID = "unsaid"
#: Held by each ingester: 1.
INGESTERS = "ingesters"
#: Held: when this process lost a hit last, in seconds since 1970.
LOST_AT = "lost_at"
#: Held by each process that answers requests: when it began, in seconds since 1970.
STARTED = "started"

_CLASSES = {(kind, digit): HITS.of(kind, f"{digit}xx") for kind in ("pixel", "redirect") for digit in range(1, 6)}


def count_hits(counters: Counters, kind: str, status: int, n: int = 1) -> None:
    """`n` requests for a pixel or a link (`kind`: `pixel`, `redirect`) were answered with `status`. Takes half a microsecond."""
    counters.add(_CLASSES[kind, status // 100], n)


def count_loss(counters: Counters, n: int) -> None:
    """`n` hits were answered and could not be written down; `settle_loss` when a segment says so."""
    counters.add(LOST.of(), n)
    counters.add(UNSAID, n)
    counters.hold(LOST_AT, int(time.time()))


def settle_loss(counters: Counters, n: int) -> None:
    counters.add(UNSAID, -n)


def count_ingested(counters: Counters, applied: int, unknown: int, dead: int, lag: float | None) -> None:
    """A batch was committed whose first hit is `lag` seconds old."""
    for outcome, n in (("applied", applied), ("unknown", unknown), ("dead_letter", dead)):
        if n:
            counters.add(INGESTED.of(outcome), n)
    if lag is not None:
        LAG.observe(counters, lag)
    _count_recent(counters, applied + unknown + dead)


# Of the last minute: windows of five seconds, each a held number that carries the window's own in its high bits.
_WINDOW_SECONDS, _WINDOWS = 5, 13  # the one that is being filled, and a minute of whole ones
_RECENT = [f"recent{number}" for number in range(_WINDOWS)]


def _count_recent(counters: Counters, n: int) -> None:
    window = int(time.time()) // _WINDOW_SECONDS
    name = _RECENT[window % _WINDOWS]
    before = counters.held(name)
    counters.hold(name, (before if before >> 32 == window else window << 32) + n)


def recent_rate(held: Iterable[dict[str, int]]) -> float:
    """Events a second, over the last minute, of the processes that live."""
    now = int(time.time()) // _WINDOW_SECONDS
    numbers = [each.get(name, 0) for each in held for name in _RECENT]
    recent = sum(number & 0xFFFFFFFF for number in numbers if now - _WINDOWS < number >> 32 < now)
    return recent / ((_WINDOWS - 1) * _WINDOW_SECONDS)
