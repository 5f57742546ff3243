"""From the spool into the database, exactly once by position.

A drainer reads a segment's position, reads lines from there, and in one transaction looks whether the position is still the
same, applies them and moves it. So any number of processes may drain at once and any may die. (4 drainers, 56 kill -9,
272,820 hits: 272,820 rows, none twice.)
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from campaigns.apply import apply
from campaigns.events import TrackingEvent, now_ms
from campaigns.sql.common import give_way
from campaigns.times import MAX_AHEAD
from tracking.brief_queries import answered_within
from tracking.ingest.pace import HOLD_SECONDS, SHARED_HOLD_SECONDS, Deadline, Pace
from tracking.metrics.names import count_ingested
from tracking.metrics.shared import process_counters
from tracking.models import DeadLetter, SpoolPosition
from tracking.spool import reader
from tracking.spool.lines import MAX_LINE, BadLine, Lost, parse_line
from tracking.spool.nginx_log import NginxLog
from tracking.spool.reader import Line, Segment
from tracking.spool.seldom import is_due
from tracking.spool.writer import process_writer

logger = logging.getLogger("tracking.ingest")

#: How long a reader waits at most for what was answered before it, waiting for locks included.
READ_BUDGET = 0.25
#: A pause between batches that is longer, in seconds, is one for others and no mere look whether they are there.
RESTED = 0.1

#: What the database is when it is away or busy: try again, nothing is wrong with the data.
AWAY = (OperationalError, InterfaceError)

#: What the data are when they cannot be applied, however often it is tried.
BAD_DATA = (DatabaseError, ValueError, TypeError, KeyError, OverflowError, RecursionError)

#: How often the same is said of the same segment.
SAY_SECONDS = 60.0

#: Positions as this process last saw them committed, so that a read with nothing pending costs no query.
_positions: dict[str, int] = {}
#: Those of them that are to be read again, whatever waits: a database that fell takes its last commits back.
_doubted: set[str] = set()


_pace = Pace()

#: In one process one thread drains at a time: others would read the same lines, to find them applied by the first.
_draining = threading.Lock()

#: What is drained: they have a name for their position, a size, and lines.
Source = Segment | NginxLog
#: Is given the seconds that the last hit has waited, and says whether to go on. Where others want the cores it rests before.
GoOn = Callable[[float], bool]


def forget_positions() -> None:
    """Drop what this process remembers, for when the database under it has been replaced."""
    _positions.clear()
    _doubted.clear()


def read_positions(sources: Iterable[Source]) -> None:
    """Learn from the database how far these are applied. Raises `OperationalError` when it is away."""
    names = [source.name for source in sources]
    known = dict(SpoolPosition.objects.filter(pk__in=names).values_list("segment", "position"))
    _positions.update({name: known.get(name, 0) for name in names})
    _doubted.difference_update(names)


def pending() -> int:
    """Bytes in the spool that are not applied, as far as this process knows (others may have applied more). No query."""
    return unread(spool())


def unread(sources: Iterable[Source]) -> int:
    """The same of any segments and logs."""
    return sum(_unread(source) for source in sources)


def spool() -> Sequence[Source]:
    """The segments of this machine's spool that are not put away."""
    return reader.segments(settings.CONF.spool_dir)


def drain(budget: float | None = None) -> int:
    """Apply what the spool holds now; what comes meanwhile is the next drain's. Returns the bytes that are still pending.

    With a `budget` in seconds it stops when that is spent, waiting for locks included, and does not raise: with the database
    away it returns what is pending. Without one it raises `OperationalError` then.
    """
    return drain_sources(spool(), budget)


def drain_sources(sources: Iterable[Source], budget: float | None = None, go_on: GoOn | None = None) -> int:
    """The same of any segments and logs. `go_on` is asked before each batch, and may rest."""
    waiting = [source for source in sources if _waits(source)]
    if not waiting:
        return 0
    deadline = Deadline(None if budget is None else time.monotonic() + budget)
    try:
        with _one_at_a_time(deadline) as in_turn:
            if in_turn:
                _drain_in_turn(waiting, deadline, go_on)
    except AWAY:
        _doubted.update(_positions)
        if budget is None:
            raise
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
    return unread(waiting)


@contextmanager
def _one_at_a_time(deadline: Deadline) -> Iterator[bool]:
    """Whether it is this thread's turn before the deadline. Who holds the database's locks already waits for nobody."""
    if connection.in_atomic_block:
        yield True
    elif _draining.acquire(timeout=-1 if deadline.left is None else deadline.left):
        try:
            yield True
        finally:
            _draining.release()
    else:
        yield False


def _drain_in_turn(sources: Sequence[Source], deadline: Deadline, go_on: GoOn | None) -> None:
    waiting = [source for source in sources if _waits(source)]
    if not waiting:
        return  # another thread has done it
    with _patience(deadline):
        read_positions(waiting)
    for source in waiting:
        if not _drain_source(source, deadline, go_on) or deadline.passed:
            break


def drain_once(sources: Sequence[Source] | None = None, go_on: GoOn | None = None) -> bool:
    """Apply what the spool (or these) holds now; whether something could be done. Raises `OperationalError` when the database is away."""
    sources = spool() if sources is None else sources
    before = unread(sources)
    return any(map(_waits, sources)) and drain_sources(sources, go_on=go_on) != before


def _hold(deadline: Deadline) -> float:
    """How long the next batch may hold the database's locks. Who has a deadline is one of several that answer requests."""
    shared = connection.vendor == "sqlite" and (deadline.at is not None or not _pace.alone)
    return SHARED_HOLD_SECONDS if shared else HOLD_SECONDS


def _let_others_first(go_on: GoOn | None) -> bool:
    """Between batches of who has time: others write and compute first. Whether to go on."""
    began = time.monotonic()
    if go_on is not None and not go_on(_pace.lag):
        return False
    if give_way() or time.monotonic() - began > RESTED:
        _pace.met_others()
    return True


def _unread(source: Source) -> int:
    return max(0, source.size - _positions.get(source.name, 0))


def _waits(source: Source) -> bool:
    return source.name in _doubted or _unread(source) > 0


def _drain_source(source: Source, deadline: Deadline, go_on: GoOn | None) -> bool:
    """Whether the next one may be begun."""
    try:
        while (position := _positions.get(source.name, 0)) < source.size and not deadline.passed:
            if deadline.at is None and not _let_others_first(go_on):
                return False
            lines = source.read_lines(position, _pace.lines(_hold(deadline), deadline.left))
            if not lines:
                if torn := source.read_torn(position):
                    _apply_lines(source.name, position, [torn], deadline, source, torn=True)
                break
            _apply_lines(source.name, position, lines, deadline, source)
        if _positions.get(source.name, 0) >= source.size:
            _put_away(source)
    except FileNotFoundError:  # another process was done with it first
        _positions[source.name] = source.size
    except OSError as error:  # it cannot be read; the others can
        _say(source.name, error)
    return True


def _put_away(source: Source) -> None:
    """That it cannot be moved (a full disk, a folder of another user's) is no reason not to go on."""
    try:
        source.put_away()
    except OSError as error:
        _say(source.name, error)


def _say(name: str, error: OSError) -> None:
    if is_due(name, SAY_SECONDS):
        logger.warning("segment %s is in trouble and waits: %s", name, error)


def _apply_lines(
    name: str, position: int, lines: Sequence[Line], deadline: Deadline, source: Source | None = None, *, torn: bool = False
) -> None:
    """Apply lines that begin at `position`, and remember where the segment's position is then. They are of `source`, unless that is
    another machine's. Raises FileNotFoundError when it is gone."""
    error = "its writer ended in the middle of it" if torn else None
    try:
        _positions[name] = _apply_batch(name, position, lines, deadline, source, error)
    except AWAY:
        raise
    except BAD_DATA as bad:
        if len(lines) == 1:
            logger.warning("a line of %s at %d goes to the dead letters: %s", name, position, bad)
            _positions[name] = _apply_batch(name, position, lines, deadline, source, f"{type(bad).__name__}: {bad}")
            return
        middle = len(lines) // 2
        _apply_lines(name, position, lines[:middle], deadline, source)
        if _positions[name] == lines[middle].start:
            _apply_lines(name, lines[middle].start, lines[middle:], deadline, source)


def _apply_batch(
    name: str, position: int, lines: Sequence[Line], deadline: Deadline, source: Source | None, error: str | None = None
) -> int:
    """One transaction. Returns the segment's position after it: another's, when another process was there first.

    With `error` the lines go to the dead letters instead.
    """
    end = lines[-1].end
    events, lost, letters = _parse(name, lines) if error is None else ([], 0, [_letter(name, line, error) for line in lines])
    with _patience(deadline), _transaction(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO spool_positions (segment, position) VALUES (%s, 0) ON CONFLICT DO NOTHING", [name])
        if cursor.rowcount > 0 and source is not None and not source.is_here():
            # no new one: it was applied, kept and forgotten while these lines were in hand (a clock was put forward)
            raise FileNotFoundError(name)
        lock = " FOR UPDATE" if connection.vendor == "postgresql" else ""
        cursor.execute(f"SELECT position FROM spool_positions WHERE segment = %s{lock}", [name])
        current: int = cursor.fetchone()[0]
        if current != position:
            return current
        began = time.monotonic()
        try:
            unknown = apply(events).unknown
            count(cursor, unknown_tokens=unknown, dropped=lost)
            DeadLetter.objects.bulk_create(letters)
        except AWAY:
            _pace.took_too_long()
            raise
        transaction.on_commit(partial(_count_ingested, events, unknown, len(letters)))
        cursor.execute("UPDATE spool_positions SET position = %s WHERE segment = %s", [end, name])
    _pace.took(len(lines), time.monotonic() - began)
    return end


def apply_chunk(name: str, lines: Sequence[Line], *, torn: bool = False) -> int | None:
    """Apply what is new of these lines of any machine's segment. Returns how far it is applied then.

    Where that is before the lines, there is a gap and nothing was done. None: the segment has no position, and so no owner any more.
    Raises `OperationalError` when the database is away.
    """
    with _transaction():
        position = SpoolPosition.objects.select_for_update().filter(pk=name).values_list("position", flat=True).first()
        fresh = [] if position is None else [line for line in lines if line.start >= position]
        if not fresh or fresh[0].start != position:
            return position
        _apply_lines(name, position, fresh, Deadline(None), torn=torn)
        _positions.pop(name, None)  # not ours to remember, and under the lock, like all of this
    return fresh[-1].end


def positions_to_ship() -> dict[Segment, int]:
    """The segments of this machine that wait, and how far the database has applied them.

    Here a segment gets its position, and without one no chunk of it is applied: one that Redis remembers for longer than the
    database remembers the segment cannot be taken for new.
    """
    waiting = [segment for segment in reader.segments(settings.CONF.spool_dir) if _waits(segment)]
    if not waiting:
        return {}
    names = [segment.name for segment in waiting]
    known = dict(SpoolPosition.objects.filter(pk__in=names).values_list("segment", "position"))
    if new := [SpoolPosition(segment=name) for name in names if name not in known]:
        SpoolPosition.objects.bulk_create(new, ignore_conflicts=True)
    positions = {segment: known.get(segment.name, 0) for segment in waiting}
    _positions.update({segment.name: position for segment, position in positions.items()})
    _doubted.difference_update(names)
    for segment in waiting:
        if positions[segment] >= segment.size:
            _put_away(segment)
            del positions[segment]
    return positions


def _count_ingested(events: Sequence[TrackingEvent], unknown: int, dead: int) -> None:
    lag = max(0.0, time.time() - events[0].occurred_at / 1000) if events else None
    _pace.lag = lag or 0.0
    count_ingested(process_counters(settings.CONF.spool_dir), len(events) - unknown, unknown, dead, lag)


def _parse(name: str, lines: Sequence[Line]) -> tuple[list[TrackingEvent], int, list[DeadLetter]]:
    events, lost, letters, now = [], 0, [], now_ms()
    for line in lines:
        try:
            said = believed(parse_line(line.data), now)
        except BadLine as error:
            letters.append(_letter(name, line, str(error)))
            continue
        if isinstance(said, Lost):
            lost += said.hits
        else:
            events.append(said)
    return events, lost, letters


def believed(said: TrackingEvent | Lost, now: int) -> TrackingEvent | Lost:
    """The same; a hit of a clock that is too far ahead was at `now` (UTC milliseconds)."""
    if isinstance(said, TrackingEvent) and said.occurred_at > now + MAX_AHEAD:
        said.occurred_at = now
    return said


def _letter(name: str, line: Line, error: str) -> DeadLetter:
    return DeadLetter(segment=name, position=line.start, line=line.data[:MAX_LINE], error=error.replace("\0", "")[:1000])


def count(cursor: Any, **counts: int) -> None:
    """Add to what ingestion counts and leaves no row for, see `IngestCount`."""
    for name, n in sorted(counts.items()):
        if n:
            cursor.execute(
                "INSERT INTO ingest_counts (name, n) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET n = ingest_counts.n + excluded.n",
                [name, n],
            )


@contextmanager
def _transaction() -> Iterator[None]:
    """A transaction whose commit is not synced, see `_patience`; within another's it is that one's to say."""
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL synchronous_commit = off")
        yield


@contextmanager
def _patience(deadline: Deadline) -> Iterator[None]:
    """Wait for the database no longer than the deadline allows; and never count as a writer that others have to give way to.

    Commits are not synced: one that the power takes back takes its position back, and the segment is kept and applied again.
    """
    left = deadline.left
    if connection.vendor == "sqlite":
        with connection.bulk(20.0 if left is None else left, synced=False):  # type: ignore[attr-defined]
            yield
    elif left is None or connection.in_atomic_block:
        yield
    else:
        with answered_within(left):
            yield


def tidy(folder: Path | None = None) -> None:
    """Put the spool's folder in order.

    Segments that are done go to the applied ones; applied ones come back that the database has not applied to their end (it
    lost commits with the power, or was restored from a backup); those past keeping are removed. What processes lost that died
    before they could say it, is said.
    """
    folder = settings.CONF.spool_dir if folder is None else folder
    process_writer(folder, settings.CONF.spool_fsync).adopt_losses()
    segments = reader.segments(folder)
    read_positions(segments)  # a database that fell and rose unseen took its last commits back
    for segment in segments:
        if not _unread(segment):
            _put_away(segment)
    applied = reader.applied_segments(folder)
    known = dict(SpoolPosition.objects.filter(pk__in=[segment.name for segment in applied]).values_list("segment", "position"))
    for segment in applied:
        if known.get(segment.name, 0) < segment.size:
            logger.warning("segment %s is applied again from %d", segment.name, known.get(segment.name, 0))
            _positions[segment.name] = known.get(segment.name, 0)
            reader.take_back(segment.path)
    keep = settings.CONF.spool_keep
    gone = reader.past_keeping(folder, keep.seconds, keep.bytes)
    for path in gone:
        path.unlink(missing_ok=True)
        _positions.pop(path.name, None)
    if gone:  # after the files: a file without a position would be applied again
        SpoolPosition.objects.filter(pk__in=[path.name for path in gone]).delete()


def _after_fork() -> None:
    """A child's threads are its own."""
    global _draining
    _draining = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
