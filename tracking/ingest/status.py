"""What ingestion has to say of itself."""

from __future__ import annotations

import time
from typing import Any

import orjson
from django.conf import settings

from tracking.models import DeadLetter, IngestCount, SpoolPosition
from tracking.spool import reader
from tracking.spool.writer import process_writer


def ingest_status() -> dict[str, Any]:
    """`pending` bytes not applied, `lag_seconds` since the oldest of them was written (0 when there are none), `dead_letters`,
    `unknown_tokens` and `dropped` hits since the beginning."""
    folder = settings.CONF.spool_dir
    segments = reader.segments(folder)
    positions = dict(SpoolPosition.objects.filter(pk__in=[segment.name for segment in segments]).values_list("segment", "position"))
    waiting = [(segment, positions.get(segment.name, 0)) for segment in segments if segment.size > positions.get(segment.name, 0)]
    counts = dict(IngestCount.objects.values_list("name", "n"))
    unsaid = process_writer(folder, settings.CONF.spool_fsync).lost
    return {
        "pending": sum(segment.size - position for segment, position in waiting),
        "lag_seconds": max((_age(segment, position) for segment, position in waiting), default=0.0),
        "dead_letters": DeadLetter.objects.count(),
        "unknown_tokens": counts.get("unknown_tokens", 0),
        "dropped": counts.get("dropped", 0) + unsaid,
    }


def _age(segment: reader.Segment, position: int) -> float:
    """Seconds since the hit at the position; 0 where it does not say."""
    try:
        lines = reader.read_lines(segment.path, position, segment.size, 1)
        at = orjson.loads(lines[0].data)["at"] if lines else None
        return max(0.0, round(time.time() - at / 1000, 3)) if isinstance(at, int) else 0.0
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
