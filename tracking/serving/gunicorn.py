"""What gunicorn is told, the same for its own command line (by `gunicorn.conf.py`) and for `python -m tracking.server`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from tracking.conf import PROJECT_ROOT, Conf
from tracking.serving import ingester

SHARED_MEMORY = "/dev/shm"  # noqa: S108


def settings(conf: Conf) -> dict[str, Any]:
    """Gunicorn's settings by name. Raises WrongSetting."""
    conf.check()
    return {
        "bind": address(conf),
        "workers": conf.workers,
        "worker_class": "tracking.serving.worker.TrackingWorker",
        "control_socket_disable": True,
        "keepalive": 15,
        "timeout": 60,  # the heart of a worker beats on its event loop, so a long request is none of this
        "graceful_timeout": 20,
        "forwarded_allow_ips": "",  # as for our own worker: see there
        "worker_tmp_dir": SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None,
        "loglevel": "info" if conf.debug else "error",
        "reload": conf.debug,
        "on_starting": prepare,
        "post_worker_init": keep_ingester,
        "worker_int": reload_worker,
        "worker_exit": end_ingester,
    }


def address(conf: Conf) -> str:
    """HOST:PORT, as in a URL."""
    return f"[{conf.host}]:{conf.port}" if ":" in conf.host else f"{conf.host}:{conf.port}"


def prepare(arbiter: Any) -> None:  # noqa: ARG001
    """Once, before there are workers, and in a process of its own: a master that knew the code could not reload it."""
    path = os.pathsep.join(filter(None, [str(PROJECT_ROOT), os.environ.get("PYTHONPATH")]))
    code = subprocess.run([sys.executable, "-m", "tracking.prepare", "--to-serve"], env={**os.environ, "PYTHONPATH": path}).returncode
    if code:
        sys.exit(code)


def keep_ingester(worker: Any) -> None:  # noqa: ARG001
    ingester.start()


def end_ingester(arbiter: Any, worker: Any) -> None:  # noqa: ARG001
    ingester.stop()


def reload_worker(worker: Any) -> None:  # noqa: ARG001
    """Called when a file has changed: finish as for a stop; the master starts another one, with the new code."""
    os.kill(os.getpid(), signal.SIGTERM)
