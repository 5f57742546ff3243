"""nginx with one worker: answering a pixel itself, without a log and with ours, and standing before other servers."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.load import need
from benchmarks.servers import answers
from tracking.conf import PROJECT_ROOT

DEPLOY = PROJECT_ROOT / "deploy" / "nginx"
LOG = "/var/log/nginx/tracking/tracking.log"

NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-errors.log;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}
}}
"""
EMPTY_GIF = """
    server {{
        listen 127.0.0.1:{port};
        location / {{ empty_gif; }}
    }}
"""
LOGGED_GIF = """
    upstream tracking {{ server 127.0.0.1:{service}; }}
    {log_format}
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
"""
#: As the README of most services has it: no upstream block, hence HTTP/1.0 and a new connection for each request.
PROXY = """
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{to};
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
"""


def start(bench: Bench, port: int, http: str) -> None:
    """One worker of nginx with this in its `http` block; it is ready when it answers on `port`."""
    folder = bench.folder / f"nginx-{port}"
    folder.mkdir()
    config = folder / "nginx.conf"
    user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(folder=folder, user=user, http=http))
    bench.start([need("nginx", "nginx-light"), "-p", folder, "-c", config], lambda: answers(port))


def empty_gif(bench: Bench) -> int:
    """nginx answering a pixel of its own, without a log: its port."""
    port = bench.port()
    start(bench, port, EMPTY_GIF.format(port=port))
    return port


def logged_gif(bench: Bench, logs: Path, service: int) -> int:
    """nginx answering the pixel as `deploy/nginx` has it, with its log in the folder `logs`: its port."""
    port = bench.port()
    log_format = (DEPLOY / "tracking-pixel-log.conf").read_text()
    location = (DEPLOY / "tracking-pixel.conf").read_text()
    assert LOG in location
    location = location.replace(LOG, str(logs / "tracking.log"))
    start(bench, port, LOGGED_GIF.format(port=port, service=service, log_format=log_format, location=location))
    return port


def proxied(bench: Bench, *targets: int) -> list[int]:
    """nginx before other servers: a port for each of theirs."""
    ports = [bench.port() for _ in targets]
    start(bench, ports[0], "".join(PROXY.format(port=port, to=target) for port, target in zip(ports, targets, strict=True)))
    return ports
