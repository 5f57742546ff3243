"""kill -9 of a worker, of the ingester and of the whole server under hits: what was answered is there, once."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from tests.faults.hitting import Hits
from tests.tracking.running import RunningServer, until

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: Kills of each victim; `FAULT_ROUNDS=50` for the long form.
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "3"))
TOKENS = [f"token-{number}" for number in range(40)]


def counted(server: RunningServer) -> dict[str, int]:
    """Opens by token, after everything is drained."""
    until(lambda: server.get("/health").status == 200, 30)
    until(lambda: "tracking-pending" not in server.get("/api/campaigns").headers, 30)
    with sqlite3.connect(server.database) as database:
        counts = dict(database.execute("SELECT tracking_token, open_count FROM messages"))
        rows = dict(
            database.execute("SELECT m.tracking_token, count(e.id) FROM messages m LEFT JOIN events e ON e.message_id = m.id GROUP BY m.id")
        )
    assert counts == rows
    return counts


def make_messages(server: RunningServer) -> None:
    campaign = server.post("/api/campaigns", {"name": "kills"}).json()["id"]
    items = [{"campaign_id": campaign, "recipient_email": f"{token}@example.com", "tracking_token": token} for token in TOKENS]
    assert server.post("/api/messages/bulk", items).status == 201


@pytest.mark.parametrize("victim", ["worker", "ingester", "server"])
def test_every_answered_hit_is_counted_once_whoever_is_killed(tmp_path: Path, victim: str) -> None:
    chance = random.Random(victim)
    with RunningServer(tmp_path, workers=2) as server:
        make_messages(server)
        with Hits(server.port, TOKENS) as hits:
            for _ in range(ROUNDS):
                before = hits.count
                until(lambda before=before: hits.count > before + 100, 30)
                time.sleep(chance.random() * 0.5)
                if victim == "server":
                    server.kill()
                    until(lambda: not server.get_or_none("/health"), 10)
                    server.start()
                else:
                    found = server.workers() if victim == "worker" else server.ingesters()
                    if found:
                        os.kill(chance.choice(found), signal.SIGKILL)
            before = hits.count
            until(lambda: hits.count > before + 100, 30)
        counts = counted(server)
    assert hits.refused == []
    for token, answered in hits.answered.items():
        # a hit whose connection broke was perhaps written before: it may be counted, and never twice
        assert answered <= counts[token] <= answered + hits.broken, token
    assert hits.count <= sum(counts.values()) <= hits.count + hits.broken


def test_pixels_and_signed_links_answer_while_the_database_is_locked_and_are_there_afterwards(tmp_path: Path) -> None:
    import subprocess
    import sys

    with RunningServer(tmp_path) as server:
        make_messages(server)
        made = subprocess.run(
            [sys.executable, "-c", "from tracking import Database; print(Database().link_url('token-1', 'https://example.com/'))"],
            env=server.environment(), capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        link = made.stdout.strip().partition("/track/")[2]
        locker = sqlite3.connect(server.database, timeout=30, isolation_level=None)
        locker.execute("BEGIN EXCLUSIVE")
        try:
            for _ in range(50):
                assert server.get("/track/pixel/token-1", timeout=2).status == 200
                assert server.get(f"/track/{link}", timeout=2).status == 302
            began = time.monotonic()
            answer = server.get("/api/messages/2")
            assert time.monotonic() - began < 2, "a read's patience is 250 ms"
            assert int(answer.headers["tracking-pending"]) > 0
        finally:
            locker.execute("ROLLBACK")
            locker.close()
        until(lambda: "tracking-pending" not in server.get("/api/messages/2").headers, 30)
        message = server.get("/api/messages/2").json()
        assert (message["open_count"], message["click_count"]) == (50, 50)


def test_hits_do_not_wait_behind_requests_that_wait_for_the_database(tmp_path: Path) -> None:
    import threading

    from tracking.serving.asgi import THREADS

    with RunningServer(tmp_path) as server:
        make_messages(server)
        locker = sqlite3.connect(server.database, timeout=30, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        waiting = [
            threading.Thread(target=server.post, args=("/api/campaigns", {"name": "waits"}), daemon=True)
            for _ in range(2 * THREADS["request"])
        ]
        try:
            for thread in waiting:
                thread.start()
            time.sleep(1)
            for _ in range(20):
                assert server.get("/track/pixel/token-1", timeout=3).status == 200
                assert server.get("/health", timeout=3).status == 200
        finally:
            locker.execute("ROLLBACK")
            locker.close()
        for thread in waiting:
            thread.join(30)
        assert server.get("/api/messages/2").json()["open_count"] == 20
