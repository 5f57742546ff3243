"""Everybody at once on one SQLite file: two workers, the command line and a script, under hits. Nothing is lost, nobody fails."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.faults.hitting import Hits, repeat
from tests.tracking.running import RunningServer, until

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: How long; `FAULT_SECONDS=60` for the long form.
SECONDS = float(os.environ.get("FAULT_SECONDS", "8"))
CLI = [sys.executable, "-m", "tracking.cli.main"]
TOKENS = [f"token-{number}" for number in range(20)]

SCRIPT = """
import sys, time
from tracking import Database
db, until, made = Database(), time.monotonic() + float(sys.argv[1]), 0
campaign = db.create_campaign("script")
while time.monotonic() < until:
    message = db.create_message(campaign_id=campaign, recipient_email="script@example.com")
    db.update_message_sent(message)
    made += 1
print(made)
"""


def test_two_workers_the_command_line_and_a_script_write_at_once_under_hits(tmp_path: Path) -> None:
    with RunningServer(tmp_path, workers=2) as server:
        campaign = server.post("/api/campaigns", {"name": "together"}).json()["id"]
        server.post(
            "/api/messages/bulk",
            [{"campaign_id": campaign, "recipient_email": "a@example.com", "tracking_token": token} for token in TOKENS],
        )
        stop, created, listed = threading.Event(), [], []

        def create() -> None:
            answer = server.post("/api/messages", {"campaign_id": campaign, "recipient_email": "api@example.com"})
            assert answer.status == 201, answer.text
            created.append(answer.json()["id"])

        def read() -> None:
            answer = server.get("/api/campaigns")
            assert answer.status == 200, answer.text
            listed.append(answer.json()["count"])

        def command() -> None:
            run = subprocess.run(
                [*CLI, "message", "create", "--campaign-id", str(campaign), "--email", "cli@example.com"],
                env=server.environment(), capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert (run.returncode, run.stderr) == (0, ""), run.stderr

        with Hits(server.port, TOKENS, rate=500) as hits:
            script = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(SECONDS)],
                env=server.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            crew = [repeat(work, stop) for work in (create, read, command)]
            time.sleep(SECONDS)
            stop.set()
            said, errors = script.communicate(timeout=60)
            for thread, _, _ in crew:
                thread.join(60)
        for (_, took, raised), name in zip(crew, ("create", "read", "command"), strict=True):
            assert raised == [], name
            assert took, name
        assert errors == ""
        assert (hits.refused, hits.broken) == ([], 0)
        assert hits.count > 10 * SECONDS
        until(lambda: "tracking-pending" not in server.get("/api/campaigns").headers, 30)
        found = {row["name"]: row["metrics"] for row in server.get("/api/campaigns").json()["results"]}
        log = server.log
    assert found["together"]["total"] == len(TOKENS) + len(created) + len(crew[2][1])
    assert found["script"]["total"] == found["script"]["sent"] == int(said)
    assert "error" not in log.lower(), log
    assert "locked" not in log.lower(), log

    import sqlite3

    with sqlite3.connect(server.database) as database:
        opens = dict(database.execute("SELECT tracking_token, open_count FROM messages WHERE open_count > 0"))
    assert opens == hits.answered
    assert max(crew[0][1]) < 5, "SQLite's own patience is 20 s; no create comes near it"


def test_a_big_campaign_is_made_listed_exported_and_deleted_while_others_are_answered(tmp_path: Path) -> None:
    """100,000 messages in parts of 10,000. The bound on others' waiting is far above what is seen, and far below a time-out."""
    with RunningServer(tmp_path) as server:
        stop = threading.Event()

        def others() -> None:
            assert server.get("/api/dashboard/summary").status == 200
            assert server.get("/track/pixel/any").status == 200
            began = time.monotonic()
            answer = server.post("/api/campaigns", {"name": "other"})
            assert answer.status == 201, f"{answer.text} after {time.monotonic() - began:.2f} s\n{server.log}"
            time.sleep(0.05)

        campaign = server.post("/api/campaigns", {"name": "big"}).json()["id"]
        thread, took, raised = repeat(others, stop)
        for part in range(10):
            items = [{"campaign_id": campaign, "recipient_email": f"u{part}-{n}@example.com"} for n in range(10_000)]
            assert server.post("/api/messages/bulk", items, timeout=60).status == 201
        assert server.get(f"/api/campaigns/{campaign}/messages?limit=5&offset=99990").json()["count"] == 100_000
        export = server.get(f"/api/campaigns/{campaign}/export", timeout=60)
        assert export.body.count(b"\n") == 100_001
        assert server.request("DELETE", f"/api/campaigns/{campaign}", timeout=60).status == 204
        assert server.get(f"/api/campaigns/{campaign}").status == 404
        until(lambda: _rows(server) == 0, 60)
        stop.set()
        thread.join(30)
        assert raised == []
        assert max(took) < 5


def _rows(server: RunningServer) -> int:
    import sqlite3

    with sqlite3.connect(server.database) as database:
        count: int = database.execute("SELECT count(*) FROM messages").fetchone()[0]
        return count
