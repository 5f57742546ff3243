"""A full disk under the spool: every hit is answered, what is lost is counted, and told at once."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.tracking.running import RunningServer, until
from tracking.conf import PROJECT_ROOT
from tracking.metrics.names import STARTED
from tracking.metrics.shared import Counters

pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB. What the spool shares it with is the file `ballast`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this user may not mount a disk")  # in CI neither: it is nothing that could be installed
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "ballast").open("ab", buffering=0) as file:
        for size in (65_536, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


class Readers:
    """Fetches pixels and signed links, and keeps count of what was answered."""

    def __init__(self, server: RunningServer, link: str) -> None:
        self.server, self.link = server, link
        self.pixels = 0
        self.clicks = {True: 0, False: 0}  # by `tracked`

    def read(self, times: int) -> None:
        for _ in range(times):
            pixel = self.server.get("/track/pixel/uuid-token")
            assert (pixel.status, len(pixel.body)) == (200, 43)
            self.pixels += 1
            click = self.server.get(self.link)
            assert (click.status, click.headers["location"]) == (302, "https://example.com/")
            self.clicks[click.json()["tracked"]] += 1

    @property
    def answered(self) -> int:
        return self.pixels + sum(self.clicks.values())


def run(server: RunningServer, *command: str) -> str:
    ran = subprocess.run(command, env=server.environment(), cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def prepare(server: RunningServer) -> str:
    """Make the message whose pixel is read: the address of its signed link."""
    assert server.post("/api/messages", {"recipient_email": "user@example.com", "tracking_token": "uuid-token"}).status == 201
    script = "from tracking import Database; print(Database().link_url('uuid-token', 'https://example.com/'))"
    return "/track" + run(server, sys.executable, "-c", script).strip().partition("/track")[2]


def status(server: RunningServer) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(run(server, sys.executable, "manage.py", "tracking", "ingest", "status", "--json"))
    return found


def scraped(server: RunningServer, name: str) -> float:
    samples = (each for family in text_string_to_metric_families(server.get("/metrics").text) for each in family.samples)
    return sum(each.value for each in samples if each.name == name)


def counting(server: RunningServer) -> int:
    """How many processes that answer requests tell the others what they count."""
    return sum(STARTED in each for each in Counters(server.spool).read().held)


def recorded(server: RunningServer) -> tuple[int, int]:
    found = server.get("/api/messages/1").json()
    return found["open_count"], found["click_count"]


def test_a_full_disk_costs_hits_but_no_answer_and_no_count(tmp_path: Path, disk: Path) -> None:
    with RunningServer(tmp_path, workers=2, TRACKING_DATA_DIR=str(disk)) as server:
        readers = Readers(server, prepare(server))
        readers.read(10)
        assert (server.get("/health/ready").json()["status"], readers.clicks) == ("ready", {True: 10, False: 0})

        fill(disk)
        readers.read(100)
        assert readers.clicks[False] > 50
        answer = server.get("/health/ready")
        assert (answer.status, answer.json()["status"], answer.json()["spool"]["writable"]) == (503, "unready", False)
        assert "healthy" not in answer.text
        assert server.get("/health").text == '{"status":"healthy"}'
        opens, clicks = recorded(server)
        lost = readers.answered - opens - clicks
        assert clicks == readers.clicks[True]
        # whoever answers: each worker knows, and a program of its own
        for _ in range(6):
            assert server.get("/health/ready").json()["spool"]["dropped"] == lost
            assert scraped(server, "tracking_hits_dropped_total") == lost
        found = status(server)
        assert (found["dropped"], found["disk"]["writable"]) == (lost, False)
        assert "hits cannot be written" in run(server, sys.executable, "manage.py", "tracking", "ingest", "status")
        assert 1 <= len(re.findall("hits are answered but lost", server.log)) <= len(server.workers()), "once a minute by each worker"

        (disk / "ballast").unlink()
        until(lambda: (readers.read(1), server.get("/health/ready").json()["status"])[1] == "ready", 30)
        before = recorded(server)
        readers.read(20)
        assert recorded(server) == (before[0] + 20, before[1] + 20)
        opens, clicks = recorded(server)
        assert status(server)["dropped"] == readers.answered - opens - clicks
        assert clicks == readers.clicks[True]
        assert server.stop() == 0

        found = status(server)
        assert found["dropped"] == readers.answered - opens - clicks
        assert found["pending"] == 0


def test_what_a_killed_worker_lost_is_not_forgotten(tmp_path: Path, disk: Path) -> None:
    with RunningServer(tmp_path, TRACKING_DATA_DIR=str(disk)) as server:
        prepare(server)
        fill(disk)
        for _ in range(100):
            assert server.get("/track/pixel/uuid-token").status == 200
        lost = 100 - recorded(server)[0]
        assert lost > 50
        [worker] = server.workers()
        os.kill(worker, 9)
        until(lambda: server.workers() not in ([], [worker]) and server.get_or_none("/health"), 20)
        assert server.get("/health/ready").json()["spool"]["dropped"] == lost
        assert scraped(server, "tracking_hits_dropped_total") == lost
        (disk / "ballast").unlink()
        assert server.stop() == 0
        assert status(server)["dropped"] == lost


def test_workers_that_may_write_no_more_lose_hits_but_no_answer_and_no_count(tmp_path: Path) -> None:
    """As on a full disk, for who may not mount one: a limit of no bytes a file, which their ingester does not have."""
    with RunningServer(tmp_path, workers=2) as server:
        readers = Readers(server, prepare(server))
        readers.read(10)
        until(lambda: server.ingesters() and counting(server) == 2)  # whoever answered: the other one has its page too
        workers = server.workers()
        for worker in workers:
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        readers.read(50)
        assert readers.clicks == {True: 10, False: 50}
        answer = server.get("/health/ready")
        assert (answer.status, answer.json()["status"]) == (503, "unready")
        for _ in range(4):
            assert server.get("/health/ready").json()["spool"]["dropped"] == 100
            assert scraped(server, "tracking_hits_dropped_total") == 100
        assert status(server)["dropped"] == 100

        for worker in workers:
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        until(lambda: (readers.read(1), server.get("/health/ready").json()["status"])[1] == "ready", 30)
        assert set(server.workers()) == set(workers)
        opens, clicks = recorded(server)
        assert (readers.pixels - opens) + (readers.clicks[True] + readers.clicks[False] - clicks) == status(server)["dropped"]
        assert clicks == readers.clicks[True]
