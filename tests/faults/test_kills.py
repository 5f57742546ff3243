"""kill -9 of a worker, of an ingester and of the whole server under hits: what was answered is there, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.hitting import Hits, check_each_once, make_messages, wait_until_drained
from tests.tracking.running import RunningServer, until
from tracking.conf import PROJECT_ROOT

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: Kills of each victim, with each policy of syncing; `FAULT_ROUNDS=50` for the long form.
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "2"))
TOKENS = [f"token-{number}" for number in range(40)]
#: Hits a second, pixels and links each.
RATE = 300


def kill(*pids: int) -> int:
    """kill -9; how many there were."""
    killed = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed += 1
    return killed


class Workers:
    """One of the workers. Another one may be starting."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server

    def kill(self, chance: random.Random) -> int:
        until(self.server.workers, 30)
        return kill(*chance.sample(self.server.workers()[:2], 1))

    def end(self) -> None:
        """Nothing to put in order: the server starts others."""


class Ingesters(Workers):
    """The server's own, which it starts again after a pause that grows, and a second one, which is always there."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(server)
        self.second = self._start()

    def kill(self, chance: random.Random) -> int:
        time.sleep(chance.random())  # it takes most of a second until it drains
        killed = kill(self.second.pid, *self.server.ingesters())
        self.second.wait(10)
        self.second = self._start()
        return killed

    def end(self) -> None:
        kill(self.second.pid)
        self.second.wait(10)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tracking.cli.main", "ingest", "run"]
        with self.server.log_file.open("ab") as log:
            return subprocess.Popen(command, env=self.server.environment(), cwd=PROJECT_ROOT, stdout=log, stderr=log)


class Servers(Workers):
    """All processes at once, as by a lost power; or the master alone, whom the others follow."""

    def kill(self, chance: random.Random) -> int:
        assert self.server.process is not None
        family = self.server.processes()
        killed = kill(*family[: chance.choice((1, len(family)))])
        self.server.process.wait(10)
        until(lambda: not self.server.get_or_none("/health"), 20)
        self.server.start()
        return killed


@pytest.mark.parametrize("fsync", ["interval", "always"])
@pytest.mark.parametrize("victims", [Workers, Ingesters, Servers])
def test_every_answered_hit_is_counted_once_whoever_is_killed(tmp_path: Path, victims: type[Workers], fsync: str) -> None:
    chance = random.Random()
    killed = 0
    with RunningServer(tmp_path, workers=2, TRACKING_SPOOL_FSYNC=fsync) as server:
        links = make_messages(server, TOKENS)
        victim = victims(server)
        try:
            with Hits(server.port, TOKENS, rate=RATE) as pixels, Hits(server.port, TOKENS, rate=RATE, links=links) as clicks:
                for _ in range(ROUNDS):
                    pixels.go_on(50)
                    clicks.go_on(50)
                    time.sleep(chance.random() * 0.5)
                    killed += victim.kill(chance)
                pixels.go_on()
                clicks.go_on()
        finally:
            victim.end()
        wait_until_drained(server)
        check_each_once(server, pixels, clicks)
        assert killed >= ROUNDS
        assert "Traceback" not in server.log
        print(f"{victims.__name__} {fsync}: {killed} killed, {pixels.count} pixels and {clicks.count} links answered,"
              f" {pixels.broken + clicks.broken} not; slowest {max(pixels.slowest, clicks.slowest):.2f} s")  # fmt: skip
