"""Whether this installation can do all its work now, and in how good a state it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from tracking.brief_queries import NO_ANSWER, database_trouble
from tracking.ingest.drain import pending
from tracking.ingest.status import ingest_status

#: Bytes that must be free where the spool is: thousands of hits.
ROOM = 1_000_000


@dataclass(frozen=True)
class Readiness:
    database: str  # "ok", or the class of its error
    writable: bool  # the spool

    @property
    def ready(self) -> bool:
        return self.database == "ok" and self.writable

    def details(self) -> dict[str, Any]:
        """For who may read: the database, and of the spool what is not applied in bytes and how long it waits in seconds (None
        when the database does not say)."""
        waiting, lag = pending(), None
        if self.database == "ok":
            try:
                status = ingest_status()
            except NO_ANSWER:
                pass
            else:
                waiting, lag = status["pending"], status["lag_seconds"]
        return {"database": self.database, "spool": {"writable": self.writable, "pending": waiting}, "lag_seconds": lag}


def readiness() -> Readiness:
    return Readiness(database_trouble() or "ok", _writable(settings.CONF.spool_dir))


def _writable(folder: Path) -> bool:
    """Whether a line can be written there, or the folder made with the first one."""
    try:
        place = next(path for path in (folder, *folder.parents) if path.exists())
        disk = os.statvfs(place)
    except OSError:
        return False
    return os.access(place, os.W_OK | os.X_OK) and disk.f_bavail * disk.f_frsize >= ROOM
