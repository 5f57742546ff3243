"""Whether this installation can do all its work now, and in how good a state it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings

from tracking.brief_queries import NO_ANSWER, database_trouble
from tracking.ingest import status
from tracking.ingest.drain import pending
from tracking.ingest.nginx_logs import pending_logs
from tracking.metrics.shared import Numbers
from tracking.models import IngestCount
from tracking.spool.disk import Disk, disk_under

#: Hits that wait for longer than this, in seconds, are worth a look. (They wait a tenth of a second where all is well.)
LATE_SECONDS = 60.0


@dataclass(frozen=True)
class Readiness:
    """`unready` takes a node out of its load balancer, so it is for what another node can do better: where the database is away
    pages fail, where the spool cannot be written hits are lost. A node that is only behind with its spool answers as well as any."""

    database: str  # "ok", or the class of its error
    disk: Disk
    numbers: Numbers
    backlog: status.Backlog | None  # None where the database does not say

    @property
    def writable(self) -> bool:
        return status.can_write(self.disk, self.numbers)

    @property
    def ready(self) -> bool:
        return self.database == "ok" and self.writable

    @property
    def word(self) -> str:
        if not self.ready:
            return "unready"
        return "degraded" if self.backlog and self.backlog.lag >= LATE_SECONDS else "ready"

    def details(self) -> dict[str, Any]:
        """For who may read: the database; of the spool what is not applied in bytes, its disk, and the hits it lost; how long the
        oldest hit waits in seconds (None when the database does not say); and how many ingesters this machine has."""
        return {
            "database": self.database,
            "spool": {
                "writable": self.writable,
                "free_bytes": self.disk.free,
                "pending": self.backlog.pending if self.backlog else pending() + pending_logs(),
                "dropped": status.dropped(self.numbers, self._dropped()),
            },
            "lag_seconds": self.backlog.lag if self.backlog else None,
            "ingesters": status.ingesters(self.numbers),
        }

    def _dropped(self) -> int:
        try:
            return sum(IngestCount.objects.filter(pk="dropped").values_list("n", flat=True)) if self.database == "ok" else 0
        except NO_ANSWER:
            return 0


def readiness() -> Readiness:
    database, waiting = database_trouble() or "ok", None
    if database == "ok":
        try:
            waiting = status.backlog()
        except NO_ANSWER as error:
            database = type(error).__name__
    return Readiness(database, disk_under(settings.CONF.spool_dir), status.read_numbers(), waiting)
