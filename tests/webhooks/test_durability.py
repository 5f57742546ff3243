"""What was answered is there, once, whatever happened to the server."""

from __future__ import annotations

import http.client
import os
import signal
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.tracking.running import RunningServer, until
from tests.webhooks.conftest import counts

BATCH = 20


def report(server: RunningServer, batch: int) -> dict[str, int] | None:
    """The answer to a batch of opens; None where there was none."""
    events = [{"event": "open", "sg_message_id": "token", "sg_event_id": f"{batch}-{number}"} for number in range(BATCH)]
    try:
        reply = server.post("/webhooks/sendgrid", events)
    except (OSError, http.client.HTTPException):
        return None
    return reply.json() if reply.status == 200 else None


def kill_workers(server: RunningServer) -> None:
    until(server.workers)  # there may be none for a moment, after the kill before
    for pid in server.workers():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.server
@pytest.mark.slow
def test_reports_answered_before_kill_9_are_there_once(tmp_path: Path) -> None:
    batch = 0
    with RunningServer(tmp_path) as server:
        assert server.post("/api/messages", {"recipient_email": "a@example.com", "tracking_token": "token"}).status == 201
        for kills in range(5):
            killer = threading.Timer(0.05 + kills * 0.02, kill_workers, [server])  # at another point of a request each time
            killer.start()
            while killer.is_alive():
                answer = report(server, batch)
                if answer is None:
                    until(lambda: server.get_or_none("/health"), 30)
                    answer = report(server, batch)  # the provider comes again with what was not answered
                assert answer in (counts(accepted=BATCH), counts(duplicates=BATCH))  # all of it or nothing had been committed
                batch += 1
            until(lambda: server.get_or_none("/health"), 30)
        assert server.get("/api/messages/1").json()["open_count"] == batch * BATCH
        assert server.stop() == 0
    with closing(sqlite3.connect(server.database)) as database:
        assert database.execute("SELECT count(*) FROM events").fetchone() == (batch * BATCH,)
    assert batch >= 5
