"""Partitions of `events` by time, on PostgreSQL: old events go by dropping a table, which takes milliseconds whatever is in it.

What no partition is made for goes to the default one. Where rows are there for which one is made, all of the default partition is
copied into partitions of their months while ingestion goes on; then, in one short transaction, the latest rows follow and the new
tables take its place. So nobody sees a row twice or not at all, nothing is looked through under a lock, and the default
partition is empty afterwards.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from django.db import OperationalError, connection, transaction
from django.db.models import Max

from campaigns.events import now_ms
from campaigns.models import DroppedEvents
from campaigns.rules import Refused
from campaigns.times import DAY, from_ms, to_ms

Unit = Literal["day", "month"]
Span = tuple[int, int]  # milliseconds, the end excluded

#: Partitions that `keep_ahead()` keeps beyond the present one.
AHEAD: dict[Unit, int] = {"day": 7, "month": 2}
#: Rows that are copied in a transaction: half a second. Also the most that `keep_ahead()` copies.
CHUNK = 50_000
#: Rows that are left for the transaction that keeps everybody out: 50 ms.
LEFT = 10_000
#: Who waits for the lock of `events` makes all others wait behind it, so it is not waited for long, but often.
LOCK_WAIT, TRIES = "300ms", 40
_LOCK = 0x65766E74  # of all who change which rows of events there are, other than by adding some
_BOUNDS = re.compile(r"FROM \((?:'(\d+)'|MINVALUE)\) TO \((?:'(\d+)'|MAXVALUE)\)")


@dataclass(frozen=True)
class Partition:
    """`start` and `end` in UTC milliseconds, the end excluded; None where it has none, both None for the default one."""

    name: str
    start: int | None
    end: int | None
    rows: int  # as last estimated
    size: int  # bytes, with indexes

    @property
    def is_default(self) -> bool:
        return self.start is None and self.end is None


def are_supported() -> bool:
    """Whether the database has partitions. SQLite has not."""
    return connection.vendor == "postgresql"


def partitions() -> list[Partition]:
    """Oldest first, the default one last."""
    with connection.cursor() as cursor:
        cursor.execute(_PARTITIONS)
        found = []
        for name, bounds, rows, size in cursor.fetchall():
            start, end = match.groups() if (match := _BOUNDS.search(bounds)) else (None, None)
            if rows < 0:  # nobody has looked yet
                cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(name)}")
                rows = cursor.fetchone()[0]
            found.append(Partition(name, int(start) if start else None, int(end) if end else None, int(rows), size))
    return sorted(found, key=lambda each: (each.is_default, each.start or 0))


def make(unit: Unit, ahead: int, *, wait: bool = True) -> list[str]:
    """Partitions of the present day or month and so many that follow, and of what is in the default partition. Returns their names.

    Without `wait` nothing is made while another is at it. Raises Refused where somebody holds `events` for long; what was done is lost
    then, call again.
    """
    with _alone(wait) as alone:
        spans = _missing(unit, ahead) if alone else []
        if not spans:
            return []
        with connection.cursor() as cursor:
            names = _prepare(cursor, spans)
            try:
                copied = _copy(cursor)
                _briefly(lambda: _take_over(cursor, spans, copied))
            finally:
                cursor.execute("DROP TABLE IF EXISTS events_making")
            cursor.execute(f"ANALYZE events_default, {', '.join(names)}")
        return names


def keep_ahead() -> list[str]:
    """What the ingester calls now and then: where partitions were made, the next ones are, of the same width. Returns their names.

    Not where the default partition has much in it: to copy that would keep the ingester from its work.
    """
    if not are_supported():
        return []
    *made, default = partitions()
    if not made or default.rows > CHUNK:
        return []
    last = made[-1]
    unit: Unit = "day" if last.start is not None and last.end is not None and last.end - last.start <= DAY else "month"
    return make(unit, AHEAD[unit], wait=False) if _missing(unit, AHEAD[unit]) else []


def droppable(before: int) -> list[Partition]:
    """The partitions that end by then."""
    return [each for each in partitions() if each.end is not None and each.end <= before]


def drop(found: list[Partition]) -> None:
    """Drop them with their events. States and counts stay what they are, and `recount` knows that these events are gone."""

    def work() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {', '.join(connection.ops.quote_name(each.name) for each in found)}")
        DroppedEvents.objects.create(before=from_ms(max(each.end or 0 for each in found)))

    if found:
        with _alone():
            _briefly(work)


def dropped_before() -> int:
    """Events that occurred before this moment (milliseconds) may have been dropped."""
    latest = DroppedEvents.objects.aggregate(before=Max("before"))["before"]
    return 0 if latest is None else to_ms(latest)


def may_delete_events() -> bool:
    """Whether rows of events may be deleted or changed in this transaction: not while they are being copied. Nobody waits."""
    if not are_supported():
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock_shared(%s)", [_LOCK])
        return bool(cursor.fetchone()[0])


# -- which


def _missing(unit: Unit, ahead: int) -> list[Span]:
    """What partitions are to be made over, oldest first."""
    present = span_of(now_ms(), unit)
    spans = [present]
    for _ in range(ahead):
        spans.append(span_of(spans[-1][1], unit))
    for day in _days_in_default():
        if day >= present[0]:
            spans.append(span_of(day, unit))
        else:  # the past by months, or a year of days would be a year of tables
            start, end = span_of(day, "month")
            spans.append((start, min(end, present[0])))
    taken = [(each.start or 0, each.end or 2**63 - 1) for each in partitions() if not each.is_default]
    missing: list[Span] = []
    for span in spans:
        missing += without(span, taken + missing)
    return sorted(missing)


def _days_in_default() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT occurred_at / {DAY} FROM events_default")
        return [day * DAY for (day,) in cursor.fetchall()]


def span_of(moment: int, unit: Unit) -> Span:
    """The day or month (UTC) of a moment in milliseconds."""
    if unit == "day":
        start = moment - moment % DAY
        return start, start + DAY
    first = from_ms(moment).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return to_ms(first), to_ms((first + dt.timedelta(days=31)).replace(day=1))


def without(span: Span, taken: list[Span]) -> list[Span]:
    """The parts of a span that no taken one has."""
    parts, start = [], span[0]
    for other_start, other_end in sorted(taken):
        if other_start < span[1] and other_end > start:
            if other_start > start:
                parts.append((start, other_start))
            start = other_end
    return [*parts, (start, span[1])] if start < span[1] else parts


def name_of(span: Span) -> str:
    """`events_2026_01`, `events_2026_01_15`; `events_2026_01_01_to_2026_01_15` for what is neither a month nor a day."""
    start, end = (from_ms(each) for each in span)
    if span == span_of(span[0], "month"):
        return f"events_{start:%Y_%m}"
    return f"events_{start:%Y_%m_%d}" if span[1] - span[0] == DAY else f"events_{start:%Y_%m_%d}_to_{end:%Y_%m_%d}"


# -- how


@contextmanager
def _alone(wait: bool = True) -> Iterator[bool]:
    """One at a time, and no deletes of events meanwhile. Gives whether it is so; without `wait` it may not be."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {'pg_advisory_lock' if wait else 'pg_try_advisory_lock'}(%s)", [_LOCK])
        (held,) = cursor.fetchone()
        try:
            yield held is not False
        finally:
            if held is not False:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])


def _briefly(work: Callable[[], Any]) -> Any:
    """Do it in a transaction that waits for locks a short time only, tried often. Raises Refused."""
    for _ in range(TRIES):
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
                return work()
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) not in ("55P03", "40P01"):
                raise
            time.sleep(0.25)
    raise Refused("a long transaction holds the table events: try again later", status=503)


def _prepare(cursor: Any, spans: list[Span]) -> list[str]:
    """Tables like events under a table of their own, which routes rows to them; nobody else sees these yet."""
    cursor.execute("DROP TABLE IF EXISTS events_making")  # of one who was killed
    like = "LIKE events INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES"
    cursor.execute(f"CREATE TABLE events_making ({like}) PARTITION BY RANGE (occurred_at)")
    cursor.execute("CREATE TABLE events_default_new PARTITION OF events_making DEFAULT")
    for start, end in spans:
        name = name_of((start, end))
        # the check says the same as the bounds, but stays when it moves to events: PostgreSQL need not look at the rows then
        check = f"CONSTRAINT within CHECK (occurred_at >= {start} AND occurred_at < {end})"
        cursor.execute(f"CREATE TABLE {name} PARTITION OF events_making ({check}) FOR VALUES FROM ({start}) TO ({end})")
    return [name_of(span) for span in spans]


def _copy(cursor: Any) -> int:
    """Copy what is in the default partition, but for the latest few; returns the id up to which it has."""
    copied = 0
    while (last := _briefly(lambda: _last_id(cursor))) - copied > LEFT:
        upto: int | None = copied
        while upto is not None:
            cursor.execute(_COPY_CHUNK, [upto, last, CHUNK])
            (upto,) = cursor.fetchone()
        copied = last
    return copied


def _last_id(cursor: Any) -> int:
    """An id below which no row can come any more: once those who were adding rows have finished."""
    cursor.execute("LOCK TABLE events IN SHARE MODE")
    cursor.execute("SELECT max(id) FROM events_default")
    return cursor.fetchone()[0] or 0


def _take_over(cursor: Any, spans: list[Span], copied: int) -> None:
    """The rest of the default partition follows, and the new tables take its place."""
    cursor.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
    cursor.execute(f"INSERT INTO events_making SELECT * FROM events_default WHERE id > {copied}")
    cursor.execute("DROP TABLE events_default")
    for start, end in spans:
        name = name_of((start, end))
        cursor.execute(f"ALTER TABLE events_making DETACH PARTITION {name}")
        cursor.execute(f"ALTER TABLE events ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})")
        cursor.execute(f"ALTER TABLE {name} DROP CONSTRAINT within")
    cursor.execute("ALTER TABLE events_making DETACH PARTITION events_default_new")
    cursor.execute("ALTER TABLE events_default_new RENAME TO events_default")
    cursor.execute("ALTER TABLE events ATTACH PARTITION events_default DEFAULT")


_PARTITIONS = """
    SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), c.reltuples, pg_total_relation_size(c.oid)
    FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'events'::regclass
"""
_COPY_CHUNK = """
    WITH copied AS (
        INSERT INTO events_making SELECT * FROM events_default WHERE id > %s AND id <= %s ORDER BY id LIMIT %s RETURNING id
    )
    SELECT max(id) FROM copied
"""
