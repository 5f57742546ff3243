"""Segments with anything in them: what can be read is counted, the rest is set aside, and the server goes on."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from campaigns.events import EventKind, now_ms
from tests.tracking.running import RunningServer, until
from tracking.conf import PROJECT_ROOT
from tracking.spool.lines import hit_line, told

pytestmark = [pytest.mark.server, pytest.mark.slow]

HIT = hit_line(EventKind.OPENED, "uuid-token", now_ms(), told=told(user_agent="Mozilla/5.0"))
CLICK = hit_line(EventKind.CLICKED, "uuid-token", now_ms(), url="https://example.com/")


def write_segment(server: RunningServer, *parts: bytes, holes: int = 0) -> Path:
    """As whoever feeds hits of his own does; with so many bytes of nothing at its end, which the disk does not hold."""
    hidden = server.spool / f".{now_ms()}.new"
    with hidden.open("wb") as file:
        file.write(b"".join(parts))
        file.truncate(file.tell() + holes)
    path = server.spool / f"{now_ms():013d}-{secrets.token_hex(8)}.jsonl"
    hidden.rename(path)
    return path


def ingest_status(server: RunningServer) -> dict[str, int]:
    command = [sys.executable, "-m", "tracking.cli.main", "ingest", "status", "--json"]
    ran = subprocess.run(command, env=server.environment(), cwd=PROJECT_ROOT, capture_output=True, timeout=60, check=True)
    found: dict[str, int] = orjson.loads(ran.stdout)
    return found


def peak_memory(pid: int) -> int:
    """Bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


TORN = HIT[:-20]
#: What a segment ends with, and how many dead letters that is.
CASES = {
    "torn": ([HIT, CLICK, TORN], 0, 1),
    "torn before others": ([HIT, TORN + b"\n", CLICK], 0, 1),
    "garbage": ([HIT, b"\xff\xfe{]garbage\r\n", b"\n", b"{}\n", b"[" * 100_000 + b"\n", CLICK], 0, 4),
    "nul in the middle": ([HIT, b"\0" * 4096 + b"\n", CLICK], 0, 1),
    "nul glued to a line": ([HIT, b"\0" * 4096 + HIT, CLICK], 0, 1),
    "nul at the end": ([HIT, CLICK, b"\0" * 4096], 0, 1),
    "nul at the end, 256 MB": ([HIT, CLICK], 256 * 1024 * 1024, 1),
    "a line of 1 MB": ([HIT, b'{"v":1,"k":"opened","t":"' + b"x" * 1024 * 1024 + b'"}\n', CLICK], 0, 1),
    "a line of 1 MB without its end": ([HIT, CLICK, b"x" * 1024 * 1024], 0, 1),
    "a hit of 1 MB": ([HIT, HIT[:-2] + b',"ua":"' + b"x" * 1024 * 1024 + b'"}\n', CLICK], 0, 1),
}


def test_what_can_be_read_is_counted_and_the_rest_is_set_aside(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        assert server.post("/api/messages", {"recipient_email": "user@example.com", "tracking_token": "uuid-token"}).status == 201
        assert server.get("/track/pixel/uuid-token").status == 200
        until(server.ingesters, 20)
        until(lambda: ingest_status(server)["pending"] == 0)
        hits, letters = 1, 0
        for name, (parts, holes, bad) in CASES.items():
            path = write_segment(server, *parts, holes=holes)
            until(lambda path=path: (server.spool / "applied" / path.name).exists(), 20)
            hits, letters = hits + 1, letters + bad
            message = server.get("/api/messages/1").json()
            assert (message["open_count"], message["click_count"]) == (hits, hits - 1), name
            assert ingest_status(server)["dead_letters"] == letters, name
        empty = write_segment(server, holes=100_000)
        until((server.spool / "applied" / empty.name).exists, 20)
        [ingester] = server.ingesters()
        assert peak_memory(ingester) < 300_000_000
        assert server.get("/track/pixel/uuid-token").status == 200
        assert server.get("/api/messages/1").json()["open_count"] == hits + 1
        assert "Traceback" not in server.log
        assert server.stop() == 0

        server.start()  # nothing comes again
        until(lambda: not list(server.spool.glob("*.jsonl")), 20)
        assert server.get("/api/messages/1").json()["open_count"] == hits + 1
        found = ingest_status(server)
        assert (found["pending"], found["dead_letters"], found["unknown_tokens"]) == (0, letters + 1, 0)
