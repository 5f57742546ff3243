"""The servers that stand side by side: ours, raw and naive under gunicorn with one worker each."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.bench import Bench, children
from benchmarks.child import run_python
from benchmarks.load import CONNECTIONS, Answers, CannotMeasure, load
from tracking.conf import DEFAULTS, PROJECT_ROOT

GUNICORN = (sys.executable, "-m", "gunicorn", "-w", "1")
SETTLE_SECONDS = 300.0
#: What a server answers to `GET /` is no matter, as long as it answers.
_ANY = range(100, 600)


def request(port: int, method: str, path: str, data: Any = None, timeout: float = 60) -> tuple[int, bytes]:
    """One request on a connection of its own; bytes are sent as they are, other data as JSON."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
        body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()


def answers(port: int, path: str = "/") -> bool:
    try:
        return request(port, "GET", path, timeout=5)[0] in _ANY
    except (OSError, http.client.HTTPException):
        return False


def service_environment(folder: Path, **settings: str) -> dict[str, str]:
    """The settings of our service with everything in a folder: the defaults, whatever `.env` and environment say otherwise."""
    return {**DEFAULTS, "TRACKING_DB_PATH": str(folder / "tracking.db"), **settings}


class Tracking:
    """Our service on SQLite, as gunicorn's own command line starts it: one worker, the ingester beside it."""

    def __init__(self, bench: Bench, name: str = "tracking", **settings: str) -> None:
        self.folder = bench.folder / name
        self.folder.mkdir(exist_ok=True)
        self.port = bench.port()
        self.environment = service_environment(self.folder, TRACKING_PORT=str(self.port), **settings)
        self.database = self.folder / "tracking.db"
        self.spool = self.folder / "tracking.db-spool"
        self.nginx_logs = Path(settings["TRACKING_NGINX_LOGS"]) if "TRACKING_NGINX_LOGS" in settings else None
        self.answered = self.runs = 0
        self.process = bench.start(
            [*GUNICORN, "-b", f"127.0.0.1:{self.port}", "tracking.server:create_tracking_app()"],
            lambda: answers(self.port, "/health"),
            environment=self.environment,
            cwd=PROJECT_ROOT,  # where gunicorn.conf.py is
        )

    def make_messages(self, tokens: list[str]) -> None:
        """A campaign with a message for each token. Raises CannotMeasure."""
        campaign = json.loads(self.post("/api/campaigns", {"name": "bench"}))["id"]
        for start in range(0, len(tokens), 10_000):
            items = [
                {"campaign_id": campaign, "recipient_email": f"{token}@example.com", "tracking_token": token}
                for token in tokens[start : start + 10_000]
            ]
            self.post("/api/messages/bulk", items)

    def post(self, path: str, data: Any) -> bytes:
        status, body = request(self.port, "POST", path, data)
        if status >= 300:
            raise CannotMeasure(f"POST {path} was answered {status}: {body[:200]!r}")
        return body

    # -- hits

    def hit(self, path: str, seconds: float, *, port: int | None = None, **how: Any) -> Answers:
        """Load on a path of it, through another port where something stands before it; the answers count for `check_recorded`.

        What earlier runs left is applied before: they lie further apart than the minute after which ingestion gives way no more.
        """
        self.wait_until_applied()
        found = load(f"http://127.0.0.1:{port or self.port}{path}", seconds, **how)
        self.count(found)
        return found

    def count(self, found: Answers) -> None:
        self.answered += found.answered
        self.runs += 1

    def written(self) -> int:
        """Hits in the spool and in nginx's logs, applied or not. Raises CannotMeasure when it says that hits were lost."""
        total = 0
        for segment in self.segments():
            data = segment.read()
            if b'"k":"lost"' in data:
                raise CannotMeasure("the spool says that hits were lost")
            total += data.count(b"\n")
        return total

    def written_bytes(self) -> int:
        return sum(os.fstat(segment.fileno()).st_size for segment in self.segments())

    def position(self) -> int:
        """Bytes of the spool and of nginx's logs that are applied."""
        return int(self.query("SELECT coalesce(sum(position), 0) FROM spool_positions"))

    def wait_until_applied(self) -> None:
        """Raises CannotMeasure when it takes too long."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (left := self.written_bytes() - self.position()) > 0:
            if time.monotonic() > deadline:
                raise CannotMeasure(f"{left} bytes in the spool are not applied")
            time.sleep(0.1)

    def segments(self) -> Iterator[BinaryIO]:
        """The files of the spool and nginx's logs, open. The ingester moves those that are done meanwhile: each comes once."""
        for name in sorted({path.name for path in self.spool.rglob("*.jsonl")}):
            for path in (self.spool / name, self.spool / "applied" / name):
                with suppress(FileNotFoundError), path.open("rb") as segment:
                    yield segment
                    break
        for path in self.nginx_logs.iterdir() if self.nginx_logs else ():
            with path.open("rb") as log:
                yield log

    def applied(self) -> int:
        """Hits in the database: rows of events, and those on unknown tokens, which are counted."""
        return int(self.query("SELECT (SELECT count(*) FROM events) + (SELECT coalesce(sum(n), 0) FROM ingest_counts)"))

    def query(self, sql: str) -> Any:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=20)) as database:
            return database.execute(sql).fetchone()[0]

    def check_recorded(self) -> str:
        """Wait until all is applied; then every answered hit must be in the database once. Says so in a line.

        Of each run, the requests under way when the load stopped may have been recorded without their answer being counted.
        Raises CannotMeasure when it is not so.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while (applied := self.applied()) < self.answered or applied != self.written():
            if time.monotonic() > deadline:
                raise CannotMeasure(f"{self.answered} hits answered, {self.written()} written, {applied} applied")
            time.sleep(0.2)
        under_way = applied - self.answered
        if not 0 <= under_way <= CONNECTIONS * self.runs:
            raise CannotMeasure(f"{self.answered} hits answered, {applied} recorded")
        return f"{self.answered:,} hits answered, each recorded once ({under_way} more were under way when a run ended)"

    # -- its ingester

    @contextmanager
    def ingester_stopped(self) -> Iterator[None]:
        """Hold the ingester while others are measured: a backlog of ours is no burden to them."""
        pids = [pid for pid in children(self.process.pid) if b"tracking.ingest.worker" in _command_line(pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


def raw(bench: Bench) -> int:
    """An ASGI callable that only answers, under plain uvicorn: its port."""
    port = bench.port()
    command = [*GUNICORN, "-k", "uvicorn_worker.UvicornWorker", "-b", f"127.0.0.1:{port}", "benchmarks.raw:app"]
    bench.start(command, lambda: answers(port))
    return port


class Naive:
    """The naive tracker under gunicorn as its own documentation starts it: the sync worker, no options but one worker."""

    def __init__(self, bench: Bench, tokens: list[str], database: str) -> None:
        self.database = database
        environment = {"NAIVE_DATABASE": database, "DJANGO_SETTINGS_MODULE": "benchmarks.naive.settings"}
        file = bench.folder / "naive-tokens"
        file.write_text("\n".join(tokens))
        run_python("benchmarks.naive.make", str(file), environment=environment)
        self.port = bench.port()
        bench.start(
            [*GUNICORN, "-b", f"127.0.0.1:{self.port}", "benchmarks.naive.wsgi"], lambda: answers(self.port), environment=environment
        )


def _command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    return b""
