"""A real nginx answers the pixel as `deploy/nginx/` has it, and its hits arrive."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from campaigns.events import TrackingEvent
from tests.browsing import missing
from tests.faults.hitting import Hits
from tests.tracking.nginx import DEPLOY, RunningNginx, configure
from tests.tracking.running import Reply, RunningServer, free_port, read_response, until
from tracking.spool.lines import parse_line
from tracking.spool.nginx_log import nginx_logs
from tracking.spool.reader import applied_segments, segments

pytestmark = pytest.mark.server

#: What is the same whoever answers.
SAME = ("content-type", "content-length", "cache-control", "location", "allow", "last-modified", "etag", "accept-ranges")


class Site:
    """The service, and nginx in front of it."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.nginx = RunningNginx(folder, port)
        self.server = RunningServer(folder, TRACKING_PORT=str(port), TRACKING_NGINX_LOGS=str(self.nginx.logs))

    def __enter__(self) -> Site:
        self.server.start()
        self.nginx.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.nginx.__exit__(*error)
        self.server.__exit__(None, None, None)

    def ask(self, port: int, target: bytes, method: bytes = b"GET", headers: bytes = b"") -> Reply:
        """A request as it is, of no client library."""
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(b"%b %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b\r\n" % (method, target, headers))
            if method == b"HEAD":
                response = http.client.HTTPResponse(connection, method="HEAD")
                response.begin()
                return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
            return read_response(connection)

    def spooled(self) -> list[TrackingEvent]:
        spool = self.server.database.with_name("tracking.db-spool")
        return self._events([*applied_segments(spool), *segments(spool)])

    def logged(self) -> list[TrackingEvent]:
        return self._events(nginx_logs(self.nginx.logs))

    @staticmethod
    def _events(sources) -> list[TrackingEvent]:
        events = [parse_line(line.data) for source in sources for line in source.read_lines(0, 10**6)]
        assert all(isinstance(event, TrackingEvent) for event in events)
        return events  # type: ignore[return-value]

    def make_messages(self, *tokens: str) -> None:
        items = [{"recipient_email": f"{token}@example.com", "tracking_token": token} for token in tokens]
        assert self.server.post("/api/messages/bulk", items).status == 201

    def opens(self) -> dict[str, int]:
        return {
            message["tracking_token"]: message["open_count"] for message in self.server.get("/api/messages?limit=100").json()["results"]
        }

    def pending(self) -> int:
        pending: int = self.server.get("/health/ready").json()["spool"]["pending"]
        return pending


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as running:
        yield running


def test_hits_that_nginx_answers_arrive_and_everything_else_is_the_services(site: Site) -> None:
    site.make_messages("token-1", "token-2")
    for _ in range(20):
        assert site.ask(site.nginx.port, b"/track/pixel/token-1").status == 200
    assert site.ask(site.nginx.port, b"/track/pixel/token%2d2").status == 200
    assert site.ask(site.nginx.port, b"/track/redirect/token-2?url=https%3A%2F%2Fexample.com").status == 302
    assert site.ask(site.nginx.port, b"/health").body == b'{"status":"healthy"}'
    until(lambda: site.opens() == {"token-1": 20, "token-2": 1})
    assert len(site.logged()) == 20


TOKENS = [
    b"tok", b"tok.gif", b"tok.GIF", b"tok.gif?a=1&b", b"tok?.gif", b"tok?", b"a.b~c_d-e", b"0", b"x" * 128, b"x" * 128 + b".gif", b".a",
    b"tok%2egif", b"tok%7E", b"%74ok", b"%74ok.gif",
    b"x" * 129, b"tok.gif.gif", b".gif", b".", b"..", b"...", b"..gif", b"...gif", b"....gif?x", b"tok/", b"tok/a", b"a/../tok", b"./tok",
    b"/tok", b"%2e%2e/tok", b"t%20k", b"t+k", b"tok%0a", b"t%C3%B6k", b"t\xc3\xb6k", b"tok;a", b"tok,a", b"tok&a", b"",
]  # fmt: skip
PATHS = [b"/track//pixel/", b"//track/pixel/", b"/track/./pixel/", b"/x/../track/pixel/", b"/track/pixel%2F", b"/Track/pixel/", b"/track/"]


def test_nginx_counts_what_the_service_counts_and_answers_like_it(site: Site) -> None:
    targets = [b"/track/pixel/" + token for token in TOKENS] + [path + b"tok" for path in PATHS]
    for method in (b"GET", b"HEAD", b"POST"):
        body = b"Content-Length: 0\r\n" if method == b"POST" else b""
        for target in targets:
            before = len(site.spooled())
            ours = site.ask(site.nginx.plain, target, method, body)
            alone = [event.token for event in site.spooled()[before:]]
            spooled, logged = len(site.spooled()), len(site.logged())
            theirs = site.ask(site.nginx.port, target, method, body)
            if alone:
                until(lambda spooled=spooled, logged=logged: (len(site.spooled()), len(site.logged())) != (spooled, logged))
            together = [event.token for event in site.spooled()[spooled:] + site.logged()[logged:]]
            assert (target, alone) == (target, together)
            assert (target, ours.status, ours.body) == (target, theirs.status, theirs.body)
            assert [ours.headers.get(name) for name in SAME] == [theirs.headers.get(name) for name in SAME], target
    assert len(site.logged()) == 2 * 11, "the plain ones are nginx's, GET and HEAD"


def test_agents_and_headers_are_recorded_like_those_of_the_service(site: Site) -> None:
    for headers in (
        b"",
        b"User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64)\r\nAccept: image/webp,*/*;q=0.8\r\nSec-Fetch-Dest: image\r\nX-Other: 1\r\n",
        b'User-Agent: M\xc3\xbcller "\\/\xff {}\r\nReferer: https://mail.example/?\xe9\r\nVia: 1.1 a, 1.1 b\r\nX-Moz: prefetch\r\n',
        b"User-Agent: " + b"x\xff" * 1500 + b"\r\nAccept-Language: " + b"y" * 1000 + b"\r\nPurpose: prefetch\r\n",
    ):
        spooled, logged = len(site.spooled()), len(site.logged())
        for port in (site.nginx.plain, site.nginx.port):
            assert site.ask(port, b"/track/pixel/tok", headers=headers).status == 200
        until(lambda logged=logged: len(site.logged()) > logged)
        [ours], [theirs] = site.spooled()[spooled:], site.logged()[logged:]
        assert abs(theirs.occurred_at - ours.occurred_at) < 20_000
        assert replace(theirs, occurred_at=0) == replace(ours, occurred_at=0)


def test_conditional_and_partial_requests_get_the_whole_picture(site: Site) -> None:
    for header in (b"If-Modified-Since: Mon, 28 Sep 2099 06:00:00 GMT", b"Range: bytes=0-3", b'If-None-Match: "x"'):
        reply = site.ask(site.nginx.port, b"/track/pixel/tok", headers=header + b"\r\n")
        assert (header, reply.status, len(reply.body)) == (header, 200, 43)


@pytest.mark.slow
def test_rotation_and_killed_ingesters_under_hits_lose_and_double_nothing(site: Site) -> None:
    tokens = [f"token-{number}" for number in range(20)]
    site.make_messages(*tokens)
    with Hits(site.nginx.port, tokens, rate=2_000) as hits:
        for turn in range(1, 7):
            before = hits.count
            until(lambda before=before: hits.count > before + 200, 30)
            site.nginx.log.rename(site.nginx.log.with_suffix(f".log.{turn}"))
            until(lambda before=before: hits.count > before + 250, 30)  # into the renamed one
            site.nginx.reopen()
            for pid in site.server.ingesters():
                os.kill(pid, signal.SIGKILL)
    assert (hits.refused, hits.broken) == ([], 0)
    until(lambda: sum(site.opens().values()) >= hits.count, 30)
    until(lambda: site.pending() == 0)
    assert site.opens() == hits.answered
    assert len(list(site.nginx.logs.iterdir())) == 7


def test_the_logrotate_file_that_we_ship_rotates_without_a_loss(site: Site, tmp_path: Path) -> None:
    logrotate = shutil.which("logrotate") or shutil.which("/usr/sbin/logrotate")
    if logrotate is None:
        missing("logrotate")
    shipped = (DEPLOY / "logrotate").read_text()
    for name, here in (
        ("/var/log/nginx/tracking", str(site.nginx.logs)),
        ("/run/nginx.pid", str(tmp_path / "nginx.pid")),
        ("create 0640 www-data tracking", "create 0640"),  # as the log that is there
    ):
        assert name in shipped
        shipped = shipped.replace(name, here)
    (tmp_path / "logrotate.conf").write_text(shipped)
    (tmp_path / "logrotate.conf").chmod(0o644)
    site.make_messages("tok")
    for turn in range(1, 4):
        for _ in range(10):
            site.ask(site.nginx.port, b"/track/pixel/tok")
        until(lambda turn=turn: site.opens() == {"tok": turn * 10})
        old = site.nginx.log.stat().st_ino
        command = [str(logrotate), "--force", "--state", str(tmp_path / "state"), str(tmp_path / "logrotate.conf")]
        subprocess.run(command, check=True, capture_output=True, timeout=20)
        assert site.nginx.log.stat().st_ino != old
    names = sorted(path.name for path in site.nginx.logs.iterdir())
    assert names == ["tracking.log", "tracking.log.1", "tracking.log.2.gz", "tracking.log.3.gz"]
    site.ask(site.nginx.port, b"/track/pixel/tok")
    until(lambda: site.opens() == {"tok": 31})


@pytest.mark.parametrize("pixel", [False, True])
def test_every_configuration_that_we_ship_is_valid(tmp_path: Path, pixel: bool) -> None:
    if not shutil.which("nginx"):
        missing("nginx")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    (tmp_path / "logs").mkdir()
    texts = {path.name: path.read_text() for path in DEPLOY.glob("*.conf")}
    assert set(texts) == {"tracking.conf", "tracking-pixel.conf", "tracking-pixel-log.conf"}
    include = "include snippets/tracking-pixel.conf;"
    assert f"# {include}" in texts["tracking.conf"]
    if pixel:
        texts["tracking.conf"] = texts["tracking.conf"].replace(f"# {include}", include)
    for name, text in texts.items():
        for there, here in (
            ("/etc/letsencrypt/live/tracking.example.com/fullchain.pem", f"{tmp_path}/cert.pem"),
            ("/etc/letsencrypt/live/tracking.example.com/privkey.pem", f"{tmp_path}/key.pem"),
            ("/var/log/nginx/tracking", f"{tmp_path}/logs"),
            ("snippets/", f"{tmp_path}/"),
            ("listen 443 ssl", f"listen 127.0.0.1:{free_port()} ssl"),
        ):
            text = text.replace(there, here)
        (tmp_path / name).write_text(text)
    included = "".join(f"include {tmp_path}/{name};\n" for name in ("tracking-pixel-log.conf", "tracking.conf"))
    path = configure(tmp_path, included)
    checked = subprocess.run(["nginx", "-t", "-e", "stderr", "-c", str(path)], capture_output=True, text=True, timeout=20)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
    assert (tmp_path / "logs" / "tracking.log").exists() == pixel
