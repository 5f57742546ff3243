"""A real nginx for tests, with the configuration that we ship; and the lines that it would write."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.browsing import missing
from tests.tracking.running import free_port, is_free, until
from tracking.conf import PROJECT_ROOT

DEPLOY = PROJECT_ROOT / "deploy" / "nginx"
FORMAT = (DEPLOY / "tracking-pixel-log.conf").read_text()

CONFIGURATION = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 2; {user}
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    {http}
}}
"""


def escaped(value: bytes) -> bytes:
    """As nginx does with `escape=json`: bytes beyond ASCII stay as they are."""
    named = {b'"': b'\\"', b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t", b"\b": b"\\b", b"\f": b"\\f"}
    return b"".join(named.get(b, b"\\u%04X" % b[0] if b[0] < 32 else b) for b in (value[i : i + 1] for i in range(len(value))))


def line(token: str = "uuid-token", at: int = 1_705_314_600_123, *, connection: int = 1, **told: Any) -> bytes:
    """What nginx writes, made from the format that we ship."""
    headers = {f"$http_{name.replace('-', '_')}": value for name, value in told.get("headers", {}).items()}
    values = {
        "$tracking_token": token.encode(),
        "$msec": b"%d.%03d" % divmod(at, 1000),
        "$connection": b"%d" % connection,
        "$remote_addr": told.get("ip", b"192.0.2.1"),
        "$request_method": told.get("method", b"GET"),
        "$http_user_agent": told.get("agent", b""),
        **headers,
    }
    text = "".join(re.findall(r"'(.*)'", FORMAT.partition("log_format")[2])).encode()
    return re.sub(rb"\$[a-z_]+", lambda name: escaped(values.get(name[0].decode(), b"")), text)


class RunningNginx:
    """nginx in front of a server on port `upstream`: on `port` it answers the pixel itself, with logs in `logs`; on `plain` it does not."""

    def __init__(self, folder: Path, upstream: int) -> None:
        if not shutil.which("nginx"):
            missing("nginx")
        self.folder, self.logs, self.port, self.plain = folder, folder / "logs", free_port(), free_port()
        self.logs.mkdir(exist_ok=True)
        location = (DEPLOY / "tracking-pixel.conf").read_text().replace("/var/log/nginx/tracking", str(self.logs))
        assert str(self.logs) in location
        proxy = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; location / { proxy_pass http://tracking; }"
        http = (
            f"{FORMAT}\nupstream tracking {{ server 127.0.0.1:{upstream}; }}\n"
            f"server {{ listen 127.0.0.1:{self.plain}; {proxy} }}\n"
            f"server {{ listen 127.0.0.1:{self.port}; {proxy}\n{location} }}"
        )
        self.configuration = configure(folder, http)

    def __enter__(self) -> RunningNginx:
        errors = self.folder / "nginx-errors.log"
        with errors.open("wb") as file:
            self.process = subprocess.Popen(["nginx", "-e", "stderr", "-c", str(self.configuration)], stderr=file)
        until(lambda: self.process.poll() is not None or not is_free(self.port))
        assert self.process.poll() is None, errors.read_text()
        return self

    def __exit__(self, *error: object) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(20)

    @property
    def log(self) -> Path:
        return self.logs / "tracking.log"

    def reopen(self) -> None:
        """What logrotate asks for after it has renamed the log."""
        self.process.send_signal(signal.SIGUSR1)


def configure(folder: Path, http: str) -> Path:
    """A configuration with this in its `http`."""
    path = folder / "nginx.conf"
    # its processes write where the tests may: in a folder that only their user sees
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(CONFIGURATION.format(folder=folder, user=user, http=http))
    return path
