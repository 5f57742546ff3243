"""Machines of one installation: web nodes and ingesters with folders of their own on one PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psycopg

from tests.tracking.running import RunningServer
from tracking.conf import PROJECT_ROOT

TOKENS = [f"token-{number}" for number in range(40)]
SECRET = "the-same-on-every-machine-" + "x" * 30
LINKS = "import sys; from tracking import Database; d = Database(); [print(d.link_url(t, 'https://example.com/')) for t in sys.argv[1:]]"


class Node(RunningServer):
    """A web node. With `spool_url` it ships."""

    def __init__(self, folder: Path, database_url: str, spool_url: str = "", workers: int = 1) -> None:
        folder.mkdir()
        super().__init__(
            folder,
            workers=workers,
            TRACKING_DATABASE_URL=database_url,
            TRACKING_SECRET_KEY=SECRET,
            TRACKING_DATA_DIR=str(folder / "data"),
            TRACKING_SPOOL_URL=spool_url,
        )

    @property
    def spool(self) -> Path:
        return self.folder / "data" / "spool"

    def run(self, *command: str) -> str:
        """A command on this machine: what it printed."""
        arguments = [sys.executable, *command]
        done = subprocess.run(arguments, env=self.environment(), cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def lose_power(self) -> None:
        """kill -9 of every process at once."""
        family = self.processes()
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait(10)


class Ingester:
    """`ingest run` on a machine of its own."""

    def __init__(self, folder: Path, database_url: str, spool_url: str) -> None:
        self.node = Node(folder, database_url, spool_url)  # never started; it has the settings
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Ingester:
        command = [sys.executable, "-m", "tracking.cli.main", "ingest", "run"]
        with self.node.log_file.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.node.environment(), cwd=PROJECT_ROOT, stdout=log, stderr=log)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.stop()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)


def make_messages(node: Node) -> dict[str, str]:
    """A message for each token; returns the paths of a signed link of each."""
    campaign = node.post("/api/campaigns", {"name": "nodes"}).json()["id"]
    items = [{"campaign_id": campaign, "recipient_email": f"{token}@example.com", "tracking_token": token} for token in TOKENS]
    assert node.post("/api/messages/bulk", items).status == 201
    links = node.run("-c", LINKS, *TOKENS).split()
    return {token: "/track/" + link.partition("/track/")[2] for token, link in zip(TOKENS, links, strict=True)}


def counted(database_url: str) -> tuple[dict[str, int], dict[str, int]]:
    """Opens and clicks by token, as the database has them now: this drains nothing. They equal the rows."""
    with psycopg.connect(database_url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # both look at the same moment
        rows = connection.execute("SELECT tracking_token, open_count, click_count FROM messages").fetchall()
        events = connection.execute("SELECT count(*) FROM events").fetchone()
    assert events == (sum(opens + clicks for _, opens, clicks in rows),)
    return {token: opens for token, opens, _ in rows}, {token: clicks for token, _, clicks in rows}


def total(database_url: str) -> int:
    opens, clicks = counted(database_url)
    return sum(opens.values()) + sum(clicks.values())


def wait_for(database_url: str, hits: int, seconds: float = 60) -> None:
    """Until the database has so many, or more."""
    deadline = time.monotonic() + seconds
    while (found := total(database_url)) < hits:
        assert time.monotonic() < deadline, f"{found} of {hits} hits after {seconds} s"
        time.sleep(0.05)
