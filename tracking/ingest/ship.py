"""What the ingester of a machine does that ships its spool: see `tracking.spool.ship_redis`, here with the database."""

from __future__ import annotations

import time

from django.conf import settings

from tracking.ingest.drain import AWAY, drain, positions_to_ship
from tracking.spool import reader
from tracking.spool.ship_redis import Shipper
from tracking.spool.stream import Stream

#: For the last of a spool, at the end, in seconds. (A server waits eight for its ingester.)
LAST_SECONDS = 5.0


class Shipping:
    """Ships what is in this machine's spool."""

    def __init__(self, url: str) -> None:
        self.stream = Stream(url)
        self.shipper = Shipper(self.stream)

    def step(self) -> bool:
        """Whether there was something to send, and room for it. Raises what `AWAY` is, when what can be sent without the database was."""
        try:
            positions = positions_to_ship()
        except AWAY:
            here = dict.fromkeys(reader.segments(settings.CONF.spool_dir))
            self.stream.attempt(lambda: self.shipper.step(here))
            raise
        return self.stream.attempt(lambda: self.shipper.step(positions))

    def finish(self) -> None:
        """Send what is left, and apply what nobody has taken in yet: the machine may end with its disk. Raises what `AWAY` is."""
        until = time.monotonic() + LAST_SECONDS
        while self.step() and time.monotonic() < until:
            pass
        drain(max(0.0, until - time.monotonic()))
        self.stream.close()
