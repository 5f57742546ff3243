"""Real servers for tests: processes on free ports, with a folder of their own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tracking.conf import DEFAULTS, PROJECT_ROOT, Conf
from tracking.metrics.shared import Counters

MODULE = [sys.executable, "-m", "tracking.server"]


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class RunningServer:
    """A server process and what belongs to it. `with RunningServer(folder) as server: server.get("/health")`.

    Settings are the defaults with the database in `folder` (SQLite, whatever the tests run on) and a free port, then `settings`.
    Standard output and errors go to `server.log_file`.
    """

    def __init__(self, folder: Path, command: list[str] | None = None, *, workers: int = 1, **settings: str) -> None:
        self.folder, self.command = folder, command or MODULE
        self.port = int(settings.get("TRACKING_PORT", 0)) or free_port()
        self.database = folder / "tracking.db"
        self.log_file = folder / "server.log"
        self.settings = {
            "TRACKING_HOST": "127.0.0.1",
            "TRACKING_PORT": str(self.port),
            "TRACKING_DB_PATH": str(self.database),
            "TRACKING_WORKERS": str(workers),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    # -- life

    def start(self, *, wait: bool = True) -> RunningServer:
        """Start it; with `wait` return when it answers. Raises AssertionError with its log when it ends instead."""
        command = [part.format(port=self.port) for part in self.command]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=self.environment(), stdout=log, stderr=log)
        if wait:
            until(lambda: self.exit_code is not None or self._answers(), 30)
            assert self.exit_code is None, f"the server ended with {self.exit_code}:\n{self.log}"
        return self

    def environment(self) -> dict[str, str]:
        """For the server, and for a command that shall use its database."""
        ours = {*DEFAULTS, "DJANGO_SETTINGS_MODULE"}
        kept = {name: value for name, value in os.environ.items() if name not in ours}
        return {**kept, **self.settings}

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end and wait for it: its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def kill(self) -> None:
        """kill -9 of the master process."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(5)

    def __enter__(self) -> RunningServer:
        return self if self.process else self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Leave nothing running, whatever happened."""
        if self.process is None:
            return
        family = self.processes()
        if self.exit_code is None:
            with suppress(subprocess.TimeoutExpired):
                self.stop()
        for pid in family:
            with suppress(ProcessLookupError):
                if is_running(pid):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(5)
        Counters(self.spool).read()  # puts away what the killed ones left in shared memory

    @property
    def spool(self) -> Path:
        return Conf(self.settings, PROJECT_ROOT).spool_dir

    @property
    def exit_code(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def processes(self) -> list[int]:
        """The master and all that descend from it."""
        assert self.process is not None
        return descendants(self.process.pid)

    def workers(self) -> list[int]:
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid)[1:] if "ingest" not in command_line(pid)]

    def ingesters(self) -> list[int]:
        return [pid for pid in self.processes() if "tracking.ingest.worker" in command_line(pid)]

    # -- requests

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 20) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: dict[str, str] | None = None, timeout: float = 20) -> Reply:
        return self.request("GET", path, None, headers, timeout)

    def post(self, path: str, data: Any = None, headers: dict[str, str] | None = None, timeout: float = 20) -> Reply:
        """Bytes as they are, anything else as JSON."""
        if data is not None and not isinstance(data, bytes):
            data, headers = json.dumps(data).encode(), {"Content-Type": "application/json", **(headers or {})}
        return self.request("POST", path, data, headers, timeout)

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """A plain connection, for requests that no client library makes."""
        plain = socket.socket()
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(20)
        plain.connect(("127.0.0.1", self.port))
        return plain

    def get_or_none(self, path: str) -> Reply | None:
        """None when nobody answers."""
        try:
            return self.get(path, timeout=5)
        except (OSError, http.client.HTTPException):
            return None

    def _answers(self) -> bool:
        reply = self.get_or_none("/health")
        return reply is not None and reply.status == 200


def until(true: Callable[[], Any], seconds: float = 10) -> None:
    """Wait for something that another process does. Raises AssertionError when it does not."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def is_running(pid: int) -> bool:
    """Not so for one that is dead and only waits for its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


def read_response(connection: socket.socket) -> Reply:
    """What is answered on a plain connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server with an empty database, answering."""
    with RunningServer(tmp_path) as running:
        yield running


__all__ = ["Reply", "RunningServer", "free_port", "is_free", "is_running", "read_response", "server", "until"]
