"""What ingestion has to say of itself."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings

from tracking.ingest.drain import Source, spool
from tracking.ingest.nginx_logs import logs
from tracking.metrics.names import INGESTERS, LOST, LOST_AT, UNSAID, recent_rate
from tracking.metrics.shared import Numbers, process_counters
from tracking.models import DeadLetter, IngestCount, SpoolPosition
from tracking.spool.disk import Disk, disk_under

#: Who lost a hit so many seconds ago may lose the next one too. A writer tries its disk again after one.
LOSING_SECONDS = 10
#: Lines in which the time of the oldest hit is looked for.
_LOOKED_AT = 50


@dataclass(frozen=True)
class Backlog:
    """What is in the spool, or in nginx's logs, and not in the database."""

    pending: int  # bytes
    segments: int
    lag: float  # seconds since the oldest of it was written, 0 when there is nothing


def backlog() -> Backlog:
    sources = [*spool(), *logs()]
    positions = dict(SpoolPosition.objects.filter(pk__in=[source.name for source in sources]).values_list("segment", "position"))
    waiting = [(source, positions.get(source.name, 0)) for source in sources if source.size > positions.get(source.name, 0)]
    return Backlog(
        sum(source.size - position for source, position in waiting),
        len(waiting),
        max((_age(source, position) for source, position in waiting), default=0.0),
    )


def ingest_status() -> dict[str, Any]:
    """`pending` bytes not applied, `lag_seconds` since the oldest of them was written (0 when there are none), `dead_letters`,
    `unknown_tokens` and `dropped` hits since the beginning; `segments` that are not applied to their end, `events_per_second`
    of the last minute and `ingesters` of this machine, and the `disk` of its spool. With TRACKING_SPOOL_URL also what is in the
    `stream`, of all machines: `chunks`, and `oldest_seconds` since the oldest was sent, both None while Redis is away."""
    waiting, numbers, disk = backlog(), read_numbers(), disk_under(settings.CONF.spool_dir)
    counts = dict(IngestCount.objects.values_list("name", "n"))
    found = {
        "pending": waiting.pending,
        "lag_seconds": waiting.lag,
        "dead_letters": DeadLetter.objects.count(),
        "unknown_tokens": counts.get("unknown_tokens", 0),
        "dropped": dropped(numbers, counts.get("dropped", 0)),
        "segments": waiting.segments,
        "events_per_second": round(recent_rate(numbers.held), 1),
        "ingesters": ingesters(numbers),
        "disk": {"writable": can_write(disk, numbers), "free_bytes": disk.free},
    }
    if url := settings.CONF.spool_url:
        from tracking.spool.stream import stream_status  # the client of Redis, which few have

        found["stream"] = stream_status(url)
    return found


def read_numbers() -> Numbers:
    """What all processes of this machine counted."""
    return process_counters(settings.CONF.spool_dir).read()


def dropped(numbers: Numbers, applied: int) -> int:
    """Hits lost to a full disk: `applied` are those that the database was told of. What was said in a segment and is not applied
    is in neither number, but it is among those that this machine counted as it lost them."""
    return max(applied + numbers.totals[UNSAID], numbers.totals[LOST.of()])


def ingesters(numbers: Numbers) -> int:
    return sum(each.get(INGESTERS, 0) for each in numbers.held)


def can_write(disk: Disk, numbers: Numbers) -> bool:
    """Whether hits are written down, and not lost whatever the disk says of its room (a quota, a broken one)."""
    losing = any(abs(time.time() - each.get(LOST_AT, 0)) < LOSING_SECONDS for each in numbers.held)  # of a clock that was put back, too
    return disk.writable and not losing


def _age(source: Source, position: int) -> float:
    """Seconds since the first hit from the position on; a loss, or garbage, does not say when it was. 0 where none does."""
    try:
        lines = source.read_lines(position, _LOOKED_AT)
    except OSError:
        return 0.0
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            seconds: float = time.time() - orjson.loads(line.data)["at"] / 1000
            return max(0.0, round(seconds, 3))
    return 0.0
