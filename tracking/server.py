"""The server.

    python -m tracking.server

and for gunicorn, or any other WSGI or ASGI server, `tracking.server:create_tracking_app()`.
"""

from __future__ import annotations

import errno
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tracking.conf import Conf, WrongSetting
from tracking.serving.gunicorn import address, settings

if TYPE_CHECKING:
    from tracking.serving.asgi import TrackingApplication

USAGE = """usage: python -m tracking.server

Starts the server. It is set up by the environment or a file .env: TRACKING_HOST (0.0.0.0), TRACKING_PORT (5000),
TRACKING_DB_PATH (tracking.db), TRACKING_WORKERS (by cores), TRACKING_DEBUG (False; True reloads changed code).
"""


def create_tracking_app() -> TrackingApplication:
    """The application, with its database made ready: WSGI and ASGI in one object.

    Where it cannot start it ends the process with one line, in the way the calling server understands.
    """
    from tracking.prepare import NotReady, start_to_serve

    try:
        with ThreadPoolExecutor(1) as thread:  # uvicorn calls this in its event loop, where Django lets nobody query
            thread.submit(start_to_serve).result()
    except NotReady as error:
        if "gunicorn.arbiter" in sys.modules:
            from gunicorn.errors import AppImportError

            raise AppImportError(f"Cannot start: {error}") from None
        raise SystemExit(f"Cannot start: {error}") from None

    from django.conf import settings as django_settings
    from django.utils.module_loading import import_string

    from tracking import garbage
    from tracking.keys import known_keys
    from tracking.metrics.names import count_hits
    from tracking.serving.asgi import TrackingApplication
    from tracking.serving.hits import HitDesk
    from tracking.spool.writer import process_writer

    import_module(django_settings.ROOT_URLCONF)  # now, and not in the first request
    conf = django_settings.CONF
    writer = process_writer(conf.spool_dir, conf.spool_fsync)
    hits = HitDesk(writer, conf.trusted_proxies, known_keys, partial(count_hits, writer.counters))
    application = TrackingApplication(import_string(django_settings.WSGI_APPLICATION), hits)
    garbage.settle()
    return application


def listen(conf: Conf) -> socket.socket:
    """The socket, listening: who connects before there is a worker waits for it. Raises SystemExit with one line."""
    try:
        found = socket.getaddrinfo(conf.host, conf.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, *_, where = min(found, key=lambda item: item[0] != socket.AF_INET)
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(2048)
    except socket.gaierror as error:
        raise SystemExit(f"Cannot start: TRACKING_HOST: {conf.host} cannot be resolved ({error.strerror})") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            text = f"port {conf.port} is in use: stop what uses it, or choose another one with TRACKING_PORT={conf.port % 65535 + 1}"
        elif error.errno == errno.EACCES:
            text = f"port {conf.port} is not for this user: choose one above 1023 with TRACKING_PORT=5000"
        elif error.errno == errno.EADDRNOTAVAIL:
            text = f"TRACKING_HOST: {conf.host} is no address of this machine; 0.0.0.0 means all"
        else:
            text = f"cannot listen on {conf.host} port {conf.port}: {error.strerror}"
        raise SystemExit(f"Cannot start: {text}") from None
    return listener


def main(arguments: list[str]) -> None:
    if arguments:
        wanted = arguments in (["-h"], ["--help"])
        print(USAGE, end="", file=sys.stdout if wanted else sys.stderr)
        raise SystemExit(0 if wanted else 2)
    try:
        conf = Conf()
        conf.check()
    except WrongSetting as error:
        raise SystemExit(f"Cannot start: {error}") from None
    listener = listen(conf)
    where = address(conf)
    print(f"Starting Email Tracking Server on {where}")
    print(f"Dashboard: http://{where}/dashboard")
    print(f"Health Check: http://{where}/health", flush=True)
    serve(conf, listener)


def serve(conf: Conf, listener: socket.socket) -> None:
    """Run gunicorn in this process, until it is told to stop."""
    from gunicorn.app.base import BaseApplication

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in settings(conf).items():
                self.cfg.set(name, value)
            self.cfg.set("bind", f"fd://{listener.detach()}")
            self.cfg.set("default_proc_name", "tracking.server")

        def load(self) -> Any:
            from tracking.server import create_tracking_app

            return create_tracking_app()

    Server().run()


if __name__ == "__main__":
    main(sys.argv[1:])
