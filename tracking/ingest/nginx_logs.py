"""The logs of nginx where it answers pixels itself (TRACKING_NGINX_LOGS), drained like the spool.

Only the ingester and `ingest drain` read them: a read does not wait for them, because nginx does not write them before it answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings

from tracking.ingest.drain import GoOn, Source, drain_once, drain_sources, read_positions, unread
from tracking.models import SpoolPosition
from tracking.spool import nginx_log

#: In the spool's folder: a file for each log that was seen.
SEEN = "nginx-logs"


def logs() -> Sequence[Source]:
    """The logs there are now; none without the setting."""
    folder = settings.CONF.nginx_logs
    return nginx_log.nginx_logs(folder) if folder else []


def pending_logs() -> int:
    """Bytes in the logs that are not applied, as `drain.pending` counts them."""
    return unread(logs())


def drain_logs(budget: float | None = None) -> int:
    """Apply what the logs hold now, as `drain.drain` does with the spool."""
    return drain_sources(logs(), budget)


def drain_logs_once(go_on: GoOn | None = None) -> bool:
    """The same, as `drain.drain_once`."""
    return drain_once(logs(), go_on)


def tidy_logs() -> None:
    """Read positions anew, the database may be a restored one; and drop those of logs that are gone for long."""
    if settings.CONF.nginx_logs is None:
        return
    here = logs()
    read_positions(here)
    gone = nginx_log.long_gone(settings.CONF.spool_dir / SEEN, [log.name for log in here])
    SpoolPosition.objects.filter(pk__in=[path.name for path in gone]).delete()
    for path in gone:
        path.unlink(missing_ok=True)
