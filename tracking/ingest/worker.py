"""The ingester: a loop that keeps the spool applied, and does the timed work of the house.

    python -m tracking.ingest.worker --parent-pipe

is how a server runs it: until its standard input ends, which it does when the server's process does, however that ends.

With TRACKING_SPOOL_URL a server's ingester ships what is in its spool, and `ingest run` takes in what others ship.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from tracking.ingest.courtesy import Courtesy

logger = logging.getLogger("tracking.ingest")

#: Pause when there is nothing to do, or was little: a batch of few hits costs nearly what one of many does. In seconds. Reads do
#: not wait for it: they drain for themselves.
PAUSE_SECONDS = 0.1
#: Pause after a failure; doubles up to the second number.
RETRY_SECONDS = (0.5, 10.0)
TIDY_SECONDS = 60.0
#: At the end, for what is left; the next start does the rest.
FINISH_SECONDS = 5.0
PURGE_SECONDS = 2.0
PARTITION_SECONDS = 3600.0


class Work(Protocol):
    """What an ingester does again and again."""

    def step(self) -> bool:
        """Do a part; whether there was something to do. Raises what `AWAY` is."""

    def finish(self) -> None:
        """Do the rest, at the end. Raises what `AWAY` is."""


class Draining:
    """Applies the spool of this machine, and gives way to its hits."""

    def __init__(self, courtesy: Courtesy) -> None:
        self.courtesy = courtesy

    def step(self) -> bool:
        from tracking.ingest.drain import drain_once

        return drain_once(go_on=self.courtesy)

    def finish(self) -> None:
        from tracking.ingest.drain import drain

        drain(FINISH_SECONDS)


def run(stop: threading.Event, *, of_server: bool = False) -> None:
    """Work until `stop` is set, then do the rest; then leave the database file whole for a plain copy."""
    from django.conf import settings
    from django.db import connection

    if connection.vendor == "sqlite":
        connection.write_in_bulk()  # type: ignore[attr-defined]

    from campaigns import partitions, watermarks
    from tracking import garbage
    from tracking.ingest.drain import AWAY, tidy
    from tracking.ingest.nginx_logs import drain_logs, drain_logs_once, tidy_logs
    from tracking.metrics.names import INGESTERS
    from tracking.metrics.shared import process_counters

    garbage.settle()
    counters = process_counters(settings.CONF.spool_dir)
    counters.hold(INGESTERS, 1)
    url = settings.CONF.spool_url
    courtesy = Courtesy(stop)
    work = _work(url, courtesy, of_server=of_server)
    tidying = [_Timer(TIDY_SECONDS, tidy), _Timer(TIDY_SECONDS, tidy_logs)]
    timers = [*tidying]
    if not (url and of_server):  # where ingestion is apart, that is done apart too
        timers += [
            _Timer(PURGE_SECONDS, _purge),
            _Timer(TIDY_SECONDS, watermarks.keep_up),
            _Timer(PARTITION_SECONDS, partitions.keep_ahead),
        ]
    pause, quiet = RETRY_SECONDS[0], False
    while not stop.is_set():
        try:
            began = time.monotonic()
            busy = work.step()
            busy = drain_logs_once(courtesy) or busy
            little = time.monotonic() - began < PAUSE_SECONDS
            for timer in timers:
                timer.run_if_due()
            if busy:
                quiet = False
            elif not quiet:
                quiet = _checkpoint()
            pause = RETRY_SECONDS[0]
            if not busy or little:
                stop.wait(PAUSE_SECONDS)
        except Exception as error:
            if isinstance(error, AWAY):
                logger.warning("the database is away, trying again in %.1f s: %s", pause, error)
                connection.close()
                for timer in tidying:
                    timer.due = 0.0  # it may come back without its last commits
            else:  # a mistake of ours: whoever ended for it would begin again, and meet it again
                logger.exception("ingestion failed, trying again in %.1f s", pause)
            stop.wait(pause)
            pause = min(pause * 2, RETRY_SECONDS[1])
    with suppress(*AWAY):
        work.finish()
        drain_logs(1.0)  # the rest is there at the next start, too
        _checkpoint()
    counters.hold(INGESTERS, 0)
    connection.close()


def _work(url: str, courtesy: Courtesy, *, of_server: bool) -> Work:
    """The client of Redis is only imported where there is one."""
    if not url:
        return Draining(courtesy)
    if of_server:
        from tracking.ingest.ship import Shipping

        return Shipping(url)
    from tracking.ingest.consume import Consuming

    return Consuming(url)


def _purge() -> None:
    from campaigns.lifecycle import purge_deleted
    from tracking.ingest.drain import drain

    for _ in purge_deleted():
        drain()  # a long delete does not hold up the hits


def _checkpoint() -> bool:
    """Move the log of a quiet SQLite database into its file: a plain `cp` then has all of it (it missed 300 rows in a trial)."""
    from django.db import connection

    if connection.vendor != "sqlite":
        return True
    with connection.busy_timeout(0.05), connection.cursor() as cursor:  # type: ignore[attr-defined]
        # TRUNCATE keeps writers out while it copies and syncs, seconds for a long log on a busy disk: so the copying is done
        # before, by the mode that keeps nobody out.
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        _, pages, copied = cursor.fetchone()
        if pages != copied:
            return False
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return cursor.fetchone()[0] == 0  # type: ignore[no-any-return]


class _Timer:
    def __init__(self, seconds: float, work: Callable[[], object]) -> None:
        self.seconds, self.work, self.due = seconds, work, 0.0

    def run_if_due(self) -> None:
        """Raises what `AWAY` is; any other failure is logged, and costs hits nothing."""
        from tracking.ingest.drain import AWAY

        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + self.seconds
        try:
            self.work()
        except AWAY:
            raise
        except Exception:
            logger.exception("%s failed, tried again in %.0f s", self.work.__name__.strip("_"), self.seconds)


def main() -> int:
    from tracking.prepare import NotReady, start

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    of_server = "--parent-pipe" in sys.argv[1:]
    if of_server:
        threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
    with suppress(OSError):
        os.nice(10)  # hits come first; see tracking.ingest.courtesy
    while not stop.is_set():
        try:
            start(migrate=False)
            break
        except NotReady as error:  # the database may come back; the hits are safe meanwhile
            logger.warning("%s", error)
            stop.wait(RETRY_SECONDS[1])
    if not stop.is_set():
        run(stop, of_server=of_server)
    return 0


def _stop_with_parent(stop: threading.Event) -> None:
    with suppress(OSError, ValueError):
        while os.read(sys.stdin.fileno(), 1024):
            pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
