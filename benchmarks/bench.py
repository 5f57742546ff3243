"""One piece of work of the bench: a folder, processes and ports of its own, all gone at its end however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import CannotMeasure
from tracking.conf import PROJECT_ROOT

START_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass
class Bench:
    """`seconds` is how long one run of load is, `rounds` how often a pair takes turns, `messages` what stands for "a million"."""

    folder: Path
    seconds: float
    rounds: int
    messages: int
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _port: int = field(default_factory=lambda: int(os.environ.get("BENCH_PORT", "7700")) - 1)

    def port(self) -> int:
        """The next port that nobody listens on, from BENCH_PORT on."""
        while True:
            self._port += 1
            with socket.socket() as probe, suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: what is closing is free
                probe.bind(("127.0.0.1", self._port))
                return self._port

    def start(
        self,
        command: Sequence[str | Path],
        ready: Callable[[], bool],
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a server and wait until it is ready. Raises CannotMeasure with the end of its log when it is not."""
        log_file = self.folder / f"{len(self._processes)}.log"
        with log_file.open("wb") as log:
            # a session of its own: Ctrl-C is for the bench, which then ends its servers in order
            process = subprocess.Popen(
                [str(part) for part in command],
                env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT), **(environment or {})},
                cwd=cwd or self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=user,
            )
        self._processes.append(process)
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                said = log_file.read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise CannotMeasure(f"{command[0]} does not start; it said: {said[-1]}")
            time.sleep(0.05)
        return process

    def close(self) -> None:
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
            process.terminate()
        for process in reversed(self._processes):
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def new_bench(seconds: float, rounds: int, messages: int) -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="tracking-bench-"))
    folder.chmod(0o755)  # PostgreSQL and nginx's workers run as other users
    bench = Bench(folder, seconds, rounds, messages)
    try:
        yield bench
    finally:
        with _undisturbed():
            bench.close()
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Clearing up is done to its end, however often Ctrl-C is pressed."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def children(pid: int) -> list[int]:
    """The processes that descend from one."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, file.read_text().split()):
                found += [child, *children(child)]
    return found
