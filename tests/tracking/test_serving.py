"""The bridge between the event loop and WSGI, over real sockets."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.running import Reply, RunningServer, read_response, until
from tracking.serving.asgi import pool_of
from tracking.serving.environ import wsgi_environ

pytestmark = pytest.mark.server

GUNICORN = [sys.executable, "-m", "gunicorn", "-w", "1", "-b", "127.0.0.1:{port}", "tests.tracking.plain_app:create()"]

PLAIN = {"DJANGO_SETTINGS_MODULE": "trackingsite.settings"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("plain")
    with RunningServer(folder, GUNICORN, PLAIN_APP_FOLDER=str(folder), **PLAIN) as server:
        yield server


def ask(server: RunningServer, request: bytes) -> Reply:
    with server.connect() as connection:
        connection.sendall(request)
        return read_response(connection)


def closed(server: RunningServer) -> int:
    file = server.folder / "closed"
    return len(file.read_text().splitlines()) if file.exists() else 0


# -- requests


def test_a_chunked_body_arrives_whole(plain: RunningServer) -> None:
    def parts() -> Iterator[bytes]:
        yield b"hello "
        yield b"world"

    reply = plain.request("POST", "/environ", parts())
    assert reply.json()["body"] == "hello world"
    assert reply.json()["CONTENT_LENGTH"] == "11"
    assert "HTTP_TRANSFER_ENCODING" not in reply.json()


def test_a_body_of_16_mb_is_taken_and_a_byte_more_is_refused(plain: RunningServer) -> None:
    limit = 16 * 1024 * 1024
    assert plain.post("/environ", b"x" * limit).json()["body_size"] == limit
    refused = plain.post("/environ", b"x" * (limit + 1))
    assert (refused.status, refused.headers["content-type"]) == (413, "application/problem+json")
    assert "16 MB" in refused.json()["detail"]


def test_a_chunked_body_that_grows_too_big_is_refused_and_the_client_can_read_why(plain: RunningServer) -> None:
    reply = plain.request("POST", "/webhooks/sendgrid", (b"x" * 65_536 for _ in range(160)))
    assert reply.status == 413
    assert "8 MB" in reply.json()["detail"]


def test_the_length_alone_is_enough_to_refuse(plain: RunningServer) -> None:
    reply = ask(plain, b"POST /environ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
    assert reply.status == 413


def test_names_with_underscores_are_dropped_and_cookies_joined(plain: RunningServer) -> None:
    reply = ask(
        plain,
        b"GET /environ?a=%FF HTTP/1.1\r\nHost: x\r\nX_Forwarded_For: 1.2.3.4\r\nX-Two: a\r\nX-Two: b\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n",
    )
    environ = reply.json()
    assert "HTTP_X_FORWARDED_FOR" not in environ
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_TWO"] == "a,b"
    assert environ["QUERY_STRING"] == "a=%FF"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert int(environ["REMOTE_PORT"]) > 0


def test_path_and_query_keep_bytes_that_are_no_utf_8() -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/a\ufffd",
        "raw_path": b"/a%FFb",
        "query_string": b"q=\xff",
        "headers": [],
        "http_version": "1.1",
    }
    environ = wsgi_environ(scope, b"")
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/a\xffb", "q=\xff")


@pytest.mark.parametrize(
    "request_line", [b"GET /\xff HTTP/1.1", b"CONNECT x:1 HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http://[bad HTTP/1.1", b"\x16\x03\x01"]
)
def test_nonsense_is_answered_and_leaves_no_traceback(plain: RunningServer, request_line: bytes) -> None:
    with plain.connect() as connection:
        connection.sendall(request_line + b"\r\nHost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 4")
    assert "Traceback" not in plain.log


def test_a_head_without_end_is_refused(plain: RunningServer) -> None:
    with plain.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nX-Long: " + b"x" * 270_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 431")


def test_a_head_of_64_kb_is_fine(plain: RunningServer) -> None:
    assert plain.get("/health", {"User-Agent": "x" * 65_536}).status == 200


# -- answers


def test_connections_are_kept(plain: RunningServer) -> None:
    with plain.connect() as connection:
        for _ in range(3):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_response(connection).body == b'{"status":"healthy"}'


def test_requests_in_a_row_are_answered_in_order(plain: RunningServer) -> None:
    with plain.connect() as connection:
        connection.sendall(b"GET /large?3 HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answers.index(b"yyy") < answers.index(b"healthy")


def test_http_1_0_gets_no_chunks(plain: RunningServer) -> None:
    for path, size in ((b"/large?200000", 200_000), (b"/stream?5", 5 * 65_536)):
        with plain.connect() as connection:
            connection.sendall(b"GET %b HTTP/1.0\r\n\r\n" % path)
            head, _, body = b"".join(iter(lambda: connection.recv(65_536), b"")).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert len(body) == size


@pytest.mark.parametrize("path", ["/health", "/stream?50", "/large?100000"])
def test_head_is_answered_without_body(plain: RunningServer, path: str) -> None:
    with plain.connect() as connection:
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answers = b"".join(iter(lambda: connection.recv(65_536), b""))
    first, _, second = answers.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"HTTP/1.1 200")
    assert "WARNING" not in plain.log


def test_not_modified_has_no_length_to_keep(plain: RunningServer) -> None:
    assert plain.get("/nothing").status == 304


def test_a_failure_is_a_problem_and_its_reason_is_in_the_log(plain: RunningServer) -> None:
    reply = plain.get("/fails")
    assert (reply.status, reply.headers["content-type"]) == (500, "application/problem+json")
    assert "as asked" not in reply.text
    assert "RuntimeError: as asked" in plain.log
    plain.log_file.write_text("")


def test_a_download_that_fails_half_way_does_not_look_complete(plain: RunningServer) -> None:
    with plain.connect() as connection:
        connection.sendall(b"GET /breaks HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(OSError):  # noqa: PT012
            while data := connection.recv(65_536):
                assert not data.endswith(b"0\r\n\r\n")
            raise ConnectionResetError("closed without the last chunk")
    assert "RuntimeError: in the middle" in plain.log
    plain.log_file.write_text("")


def test_a_streamed_answer_arrives_whole_and_is_closed(plain: RunningServer) -> None:
    before = closed(plain)
    assert len(plain.get("/stream?40").body) == 40 * 65_536
    until(lambda: closed(plain) == before + 1)


def test_a_client_that_leaves_ends_the_stream(plain: RunningServer) -> None:
    before = closed(plain)
    with plain.connect() as connection:
        connection.sendall(b"GET /stream?1000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(1000)
    until(lambda: closed(plain) == before + 1)


def test_half_sent_bodies_and_stalled_downloads_hold_up_nobody(plain: RunningServer) -> None:
    held: list[socket.socket] = []
    try:
        for _ in range(20):
            half = plain.connect()
            half.sendall(b"POST /environ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
            stalled = plain.connect(receive_buffer=4096)
            stalled.sendall(b"GET /stream?10000 HTTP/1.1\r\nHost: x\r\n\r\n")
            big = plain.connect(receive_buffer=4096)
            big.sendall(b"GET /large?20000000 HTTP/1.1\r\nHost: x\r\n\r\n")
            held += [half, stalled, big]
        for connection in held[1::3]:
            connection.recv(1000)  # they are on their way
        for _ in range(5):
            started = time.monotonic()
            assert plain.get("/health").status == 200
            assert len(plain.get("/stream?3").body) == 3 * 65_536
            assert time.monotonic() - started < 1
    finally:
        for connection in held:
            connection.close()


def test_slow_requests_leave_the_loop_free(plain: RunningServer) -> None:
    held = [plain.connect() for _ in range(3)]
    try:
        for connection in held:
            connection.sendall(b"GET /slow?0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        started = time.monotonic()
        assert plain.get("/health").status == 200
        assert time.monotonic() - started < 0.4
        assert [read_response(connection).body for connection in held] == [b"done"] * 3
    finally:
        for connection in held:
            connection.close()


# -- clients that stop

STOPPED = {
    "half a head": b"GET /health HTTP/1.1\r\nHos",
    "half a body": b"POST /environ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf",
    "half a stream": b"GET /stream?10000 HTTP/1.1\r\nHost: x\r\n\r\n",
    "half an answer": b"GET /large?20000000 HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a next head": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /he",
}


def test_clients_that_stop_are_given_up_in_time(tmp_path: Path) -> None:
    with RunningServer(tmp_path, GUNICORN, **PLAIN, PLAIN_APP_FOLDER=str(tmp_path), PLAIN_APP_PATIENCE="0.5") as server:
        held = {name: server.connect(receive_buffer=4096) for name in STOPPED}
        try:
            for name, request in STOPPED.items():
                held[name].sendall(request)
            until(lambda: closed(server) == 1)
            assert read_response(held["half a body"]).status == 408
            until(lambda: established(server.port) == 0, 15)  # idle ones are looked for every five seconds
        finally:
            for connection in held.values():
                connection.close()
        assert server.stop() == 0
        assert server.log == ""


def test_clients_that_stop_do_not_hold_up_the_end(tmp_path: Path) -> None:
    command = [*GUNICORN[:-1], "--graceful-timeout", "4", GUNICORN[-1]]
    with RunningServer(tmp_path, command, **PLAIN, PLAIN_APP_FOLDER=str(tmp_path)) as server:
        held = [server.connect(receive_buffer=4096) for _ in STOPPED]
        try:
            for connection, request in zip(held, STOPPED.values(), strict=True):
                connection.sendall(request)
            assert server.get("/health").status == 200
            started = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - started < 5
        finally:
            for connection in held:
                connection.close()
        assert closed(server) == 1
        assert "Traceback" not in server.log


def established(port: int) -> int:
    """How many connections to the port the server still holds, by the kernel's own table."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


# -- other servers


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_a_plain_wsgi_worker_serves_the_same_object(tmp_path: Path, worker: str) -> None:
    command = [*GUNICORN[:-1], "-k", worker, GUNICORN[-1]]
    with RunningServer(tmp_path, command, PLAIN_APP_FOLDER=str(tmp_path), **PLAIN) as server:
        assert server.get("/health").json() == {"status": "healthy"}
        until(lambda: server.ingesters())
        assert server.stop() == 0


def test_plain_uvicorn_serves_it_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "uvicorn", "--factory", "--port", "{port}", "tests.tracking.plain_app:create"]
    with RunningServer(tmp_path, command, PLAIN_APP_FOLDER=str(tmp_path), **PLAIN) as server:
        assert server.post("/environ", b"hello").json()["body"] == "hello"
        assert len(server.get("/stream?5").body) == 5 * 65_536


@pytest.mark.parametrize(
    ("query", "pool"),
    [
        (b"url=a&sig=b", "hit"),
        (b"sig=b&url=a", "hit"),
        (b"url=a&amp;sig=b", "hit"),
        (b"url=a", "request"),
        (b"url=a&nosig=1", "request"),
        (b"url=sig=", "request"),
    ],
)
def test_a_link_without_a_signature_takes_none_of_the_hits_threads(query: bytes, pool: str) -> None:
    assert pool_of({"path": "/track/redirect/a", "query_string": query}) == pool
