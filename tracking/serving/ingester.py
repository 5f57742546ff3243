"""One ingester under any server: the worker process that holds a lock keeps it as a child, and it ends with that process.

Every worker has a thread that tries a `flock` on `<spool>/ingester.lock` each second. Whoever gets it starts the child; when
that worker dies, however it dies, the kernel frees the lock for another one, and the child reads the end of its standard
input.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from tracking import private
from tracking.conf import PROJECT_ROOT, Conf

logger = logging.getLogger("tracking.serving")

COMMAND = ("-m", "tracking.ingest.worker", "--parent-pipe")
TRY_SECONDS = 1.0
#: Pause before a dead child is started again; doubles up to the second number, and is forgotten after a good run.
RESTART_SECONDS = (1.0, 30.0)
GOOD_RUN_SECONDS = 60.0
#: At the end the child applies what is in the spool. What it does not manage in this time, the next start does.
STOP_SECONDS = 8.0


class Supervisor:
    """The thread, and the child where this process is the one that has it."""

    def __init__(self, spool: Path, command: tuple[str, ...] = COMMAND) -> None:
        self.pid = os.getpid()
        self.spool, self.command = spool, command
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="ingester", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tell the child to finish and wait for it, STOP_SECONDS at most."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS + 1)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                private.make_private_folder(self.spool)
                lock = private.open_private_file(self.spool / "ingester.lock")
            except OSError as error:
                logger.warning("no ingester: %s", error)
                self._stopping.wait(RESTART_SECONDS[1])
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._keep_child()
            except BlockingIOError:
                self._stopping.wait(TRY_SECONDS)
            finally:
                os.close(lock)

    def _keep_child(self) -> None:
        pause = RESTART_SECONDS[0]
        while not self._stopping.is_set():
            started = time.monotonic()
            code = self._run_child()
            if self._stopping.is_set():
                return
            if time.monotonic() - started > GOOD_RUN_SECONDS:
                pause = RESTART_SECONDS[0]
            logger.warning("the ingester ended (%s), starting it again in %.0f s", code, pause)
            self._stopping.wait(pause)
            pause = min(pause * 2, RESTART_SECONDS[1])

    def _run_child(self) -> int | str:
        """Run it until it ends by itself or this process stops. A group of its own: Ctrl-C is the server's to hear, and pass on."""
        try:
            child = subprocess.Popen(
                [sys.executable, *self.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH")]))},
                process_group=0,
            )
        except OSError as error:
            return str(error)
        while child.poll() is None and not self._stopping.wait(0.2):
            pass
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()  # safe at any point: what is applied and how far is one transaction
        if child.stdin:
            child.stdin.close()
        return child.wait()


_supervisor: Supervisor | None = None


def start() -> None:
    """Begin to look after the ingester in this process; once is enough, whoever calls."""
    global _supervisor
    if _supervisor is None or _supervisor.pid != os.getpid():
        _supervisor = Supervisor(Conf().spool_dir)
        _supervisor.start()


def stop() -> None:
    """End it, for a worker that ends. Does nothing in a process that never started it."""
    global _supervisor
    supervisor, _supervisor = _supervisor, None
    if supervisor is not None and supervisor.pid == os.getpid():
        supervisor.stop()
