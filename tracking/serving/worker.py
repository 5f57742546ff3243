"""Our worker process under gunicorn: uvicorn on uvloop and httptools, ended with its master."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from tracking.serving.asgi import TrackingApplication
from tracking.serving.hits import HitProtocol
from tracking.serving.protocol import TrackingProtocol, close_idle
from tracking.serving.rehearsal import fits

logger = logging.getLogger("tracking.serving")

PR_SET_PDEATHSIG = 1
#: How long a thread of Django may keep the interpreter from the event loop, in seconds; Python's own 5 ms are ten times a hit.
SWITCH_SECONDS = 0.0005


class TrackingWorker(UvicornWorker):
    CONFIG_KWARGS = {
        "loop": "uvloop",
        "http": TrackingProtocol,
        "ws": "none",
        "interface": "asgi3",
        "lifespan": "on",
        "proxy_headers": False,  # whom to believe is decided in one place, for every server: tracking.hits.client_ip
        "server_header": False,
        "timeout_notify": 5,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # the other half is for the ingester's last round
        self.config.timeout_graceful_shutdown = max(1, self.cfg.graceful_timeout // 2)

    def load_wsgi(self) -> None:
        self._end_with_master()
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # each connection is an open file
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            self.wsgi = self.app.wsgi()
        except Exception as error:
            if not self.cfg.reload:
                raise
            self._wait_for_better_code(error)

    def _wait_for_better_code(self, error: Exception) -> None:
        """With TRACKING_DEBUG: code that does not load is a line in the log and a 500, until its file changes again."""
        logger.error("the code does not load; waiting for a change", exc_info=error)
        for frame, _ in traceback.walk_tb(error.__traceback__):
            self.reloader.add_extra_file(frame.f_code.co_filename)
        if isinstance(error, SyntaxError) and error.filename:
            self.reloader.add_extra_file(error.filename)
        self.wsgi = TrackingApplication(_broken)

    def _end_with_master(self) -> None:
        """However the master ends: a worker that outlived it would keep the port."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        self._leave_if_orphaned()

    def _leave_if_orphaned(self) -> None:
        if os.getppid() != self.ppid:
            os.kill(os.getpid(), signal.SIGTERM)

    def _install_sigquit_handler(self) -> None:
        """Gunicorn says SIGQUIT for a quick stop; uvicorn listens to SIGTERM alone."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, os.kill, os.getpid(), signal.SIGTERM)

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        self.config.load()
        self.config.http_protocol_class = await self.choose_protocol()
        self.server = Server(config=self.config)
        self._install_sigquit_handler()
        await self.server.serve(sockets=self.sockets)
        if not self.server.started:
            sys.exit(3)  # gunicorn's WORKER_BOOT_ERROR: it does not try for ever

    async def choose_protocol(self) -> type[TrackingProtocol]:
        """The one with the fast layer, unless this uvicorn is not as it knows it."""
        if await fits(self.config):
            return HitProtocol
        logger.warning("this uvicorn (%s) is another one than the fast layer knows; Django answers the hits, slower", version("uvicorn"))
        return TrackingProtocol

    async def callback_notify(self) -> None:
        await super().callback_notify()
        self._leave_if_orphaned()
        close_idle(self.server.server_state.connections, self.cfg.keepalive)


def _broken(_: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
    return [b"The code does not load; the log says why."]
