"""The two layers that answer hits, compared request by request over real sockets: same answers, same lines in the spool."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tests.tracking.running import RunningServer, until
from tracking import keyfile
from tracking.hits.fast import _told_often, read_head
from tracking.serving.asgi import THREADS
from tracking.serving.hits import HitDesk, HitProtocol
from tracking.serving.protocol import TrackingProtocol, close_idle
from tracking.serving.rehearsal import fits
from tracking.signing import sign
from tracking.spool.writer import SpoolWriter

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("fast layer")]

PLAIN = [
    *(sys.executable, "-m", "gunicorn", "-w", "1", "-b", "127.0.0.1:{port}"),
    *("-k", "tests.tracking.plain_worker.PlainWorker", "tracking.server:create_tracking_app()"),
]
LAST = b"GET /health HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n"
TOKEN = "a0_.~-Z"


@dataclass
class Layers:
    """Two servers of the same keys, and what both wrote down for the last request."""

    fast: RunningServer
    plain: RunningServer
    key: bytes
    lines: list[dict[str, Any]] = field(default_factory=list)

    def signed(self, url: str = "https://shop.example/a?b=1&c=2", token: str = TOKEN, position: str = "", extra: str = "") -> bytes:
        signature = sign(self.key, token, url, position)
        n = f"&n={position}" if position else ""
        return f"/track/redirect/{token}?url={quote(url, safe='')}{n}&sig={signature}{extra}".encode()

    def same(self, *packets: bytes) -> bytes:
        """Send the packets to both and compare what comes back, and what was written. Returns the answers."""
        fast, plain = (exchange(server, packets) for server in (self.fast, self.plain))
        assert fast == plain
        if b"HTTP/1.1 4" in fast:  # sent away for what followed a hit that Django's threads may still be at
            for server in (self.fast, self.plain):
                for _ in range(2 * THREADS["hit"]):
                    server.get("/health")
        written: tuple[list[Any], list[Any]] = ([], [])

        def equal() -> bool:
            for lines, server in zip(written, (self.fast, self.plain), strict=True):
                lines.extend(new_lines(server))
            return written[0] == written[1]

        with suppress(AssertionError):
            until(equal, 2)
        assert written[0] == written[1]
        self.lines = written[0]
        return fast


@contextmanager
def two_layers(factory: pytest.TempPathFactory, **settings: str) -> Iterator[Layers]:
    # The headers of Django's errors come out of sets.
    settings |= {"PYTHONHASHSEED": "0", "DJANGO_SETTINGS_MODULE": "trackingsite.settings"}
    folder, copy = factory.mktemp("fast"), factory.mktemp("plain")
    wrong = "/track/redirect/x?url=https%3A%2F%2Fa.example&sig=a"  # has a process read its keys
    with RunningServer(folder, **settings) as fast:
        fast.get(wrong)
        shutil.copy(folder / "tracking.db-keys", copy / "tracking.db-keys")
        with RunningServer(copy, PLAIN, **settings) as plain:
            plain.get(wrong)
            key = bytes.fromhex(keyfile.read(copy / "tracking.db-keys").link_keys[-1].key)
            yield Layers(fast, plain, key)


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layers]:
    with two_layers(tmp_path_factory) as layers:
        yield layers


@pytest.fixture(scope="module", params=["interval", "always"])
def synced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layers]:
    """With either way to sync the spool."""
    with two_layers(tmp_path_factory, TRACKING_SPOOL_FSYNC=request.param) as layers:
        yield layers


def exchange(server: RunningServer, packets: tuple[bytes, ...]) -> bytes:
    """All that is answered to the packets and, after the first answer, to a last request that ends the connection."""
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        with suppress(ConnectionError):
            for number, packet in enumerate(packets):
                if number:
                    time.sleep(0.01)
                connection.sendall(packet)
            received = connection.recv(65_536)
            connection.sendall(LAST)
            while part := connection.recv(65_536):
                received += part
    return re.sub(rb"\r\ndate: [^\r]*", b"", received)


_seen: dict[Path, int] = {}


def new_lines(server: RunningServer) -> list[dict[str, Any]]:
    """What was written since the last look, without the times."""
    lines: list[dict[str, Any]] = []
    for segment in sorted((server.folder / "tracking.db-spool").glob("*.jsonl")):
        whole = segment.read_bytes()
        new = whole[_seen.get(segment, 0) :]
        _seen[segment] = len(whole)
        lines += [json.loads(line) for line in new.splitlines()]
    for line in lines:
        assert abs(line.pop("at") / 1000 - time.time()) < 60
    return lines


def get(target: bytes = b"/track/pixel/" + TOKEN.encode(), *headers: bytes, version: bytes = b"1.1", method: bytes = b"GET") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return method + b" " + target + b" HTTP/" + version + b"\r\nHost: t.example\r\n" + lines + b"\r\n"


# -- one request


def test_the_fast_layer_is_in(layers: Layers) -> None:
    """Else this file would compare Django with itself."""
    assert "slower" not in layers.fast.log
    with layers.fast.connect() as connection:
        connection.sendall(get() * 100)
        answers = b""
        while answers.count(b"GIF89a") < 100:
            answers += connection.recv(65_536)
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 100
    assert len(new_lines(layers.fast)) == 100


@pytest.mark.parametrize(
    "target",
    [
        b"/track/pixel/abc",
        b"/track/pixel/abc.gif",
        b"/track/pixel/abc.GIF",
        b"/track/pixel/abc.gif.gif",
        b"/track/pixel/.gif",
        b"/track/pixel/..",
        b"/track/pixel/...gif",
        b"/track/pixel/" + b"x" * 128,
        b"/track/pixel/" + b"x" * 129,
        b"/track/pixel/" + b"x" * 128 + b".gif",
        b"/track/pixel/" + b"x" * 500,
        b"/track/pixel/",
        b"/track/pixel",
        b"/track/pixel/a/b",
        b"/track/pixel/abc/",
        b"/track/pixel/abc//",
        b"/track/pixel/%61bc",
        b"/track/pixel/a%20b",
        b"/track/pixel/a%00b",
        b"/track/pixel/a%FF",
        b"/track/pixel/abc?x=1",
        b"/track/pixel/abc?",
        b"/track/pixel/abc?x=1?y#z",
        b"/track/pixel/abc#z",
        b"/track/pixel/a\xc3\xa4",
        b"/track/pixel/abc?\xc3\xa4",
        b"/track/pixel/a|b",
        b"/track/pixel/a\\b",
        b'/track/pixel/abc?"<>',
        b"//track/pixel/abc",
        b"/TRACK/pixel/abc",
        b"http://t.example/track/pixel/abc",
        b"/track/pixel/abc;v=1",
        b"/track/pixel/a+b",
        b"/track/pixel/../pixel/abc",
    ],
)
def test_addresses_of_pixels(layers: Layers, target: bytes) -> None:
    layers.same(get(target))


@pytest.mark.parametrize(
    "headers",
    [
        [b"User-Agent: Mozilla/5.0 (X11)"],
        [b"user-agent:NoSpace/1.0"],
        [b"USER-AGENT:   Padded  "],
        [b"User-Agent:\tTab"],
        [b"User-Agent: caf\xc3\xa9"],
        [b"User-Agent: caf\xe9"],
        [b"User-Agent:"],
        [b"User-Agent: "],
        [b"User-Agent: a", b"User-Agent: b"],
        [b'User-Agent: "quoted\\"'],
        [b"User-Agent: " + b"x" * 900],
        [b"User-Agent: " + b"x" * 65_000],
        [b"User_Agent: underscore"],
        [b"Accept: */*", b"Accept-Language: de", b"Referer: https://m.example/"],
        [b"Accept: a", b"Accept: b"],
        [b"Via: 1.1 x"],
        [b"Sec-Purpose: prefetch;prerender", b"Purpose: prefetch", b"X-Moz: prefetch"],
        [b"Cookie: a=1", b"Cookie: b=2"],
        [b"X-Forwarded-For: 203.0.113.9"],
        [b"X-Forwarded-For: 10.0.0.1, 203.0.113.9"],
        [b"X-Forwarded-For: a", b"X-Forwarded-For: 127.0.0.1"],
        [b"X-Forwarded-For: 203.0.113.9:99"],
        [b"X-Forwarded-For: " + b"1.2.3.4, " * 60 + b"127.0.0.1"],
        [b"X-Real-IP: 2001:DB8::1"],
        [b"X-Real-IP: [::ffff:192.0.2.7]:80"],
        [b"X_Forwarded_For: 192.0.2.1"],
        [b"X-Forwarded-For:"],
        [b"X-Odd: \x01"],
        [b"X-Odd: a\x7fb"],
        [b"X-Odd: a\tb"],
        [b"X-Odd: folded", b" over lines"],
        [b"No colon"],
        [b": no name"],
        [b"Spaced : name"],
        [b"X-Odd:: two"],
        [b"Content-Length: 0"],
        [b"Transfer-Encoding: identity"],
        [b"Upgrade: websocket", b"Connection: Upgrade"],
        [b"Upgrade: h2c"],
        [b"Connection: keep-alive"],
        [b"Connection: Keep-Alive"],
        [b"Connection: close"],
        [b"Connection: CLOSE"],
        [b"Connection: foo"],
        [b"Connection: foo, close"],
        [b"Connection: keep-alive", b"Connection: close"],
        [b"Connection:"],
        [b"Proxy-Connection: close"],
        [b"Proxy-Connection: Keep-Alive"],
        [b"Connection: keep-alive", b"Proxy-Connection: close"],
        [b"Keep-Alive: timeout=5"],
        [b"Origin: https://evil.example"],
        [b"Host: two"],
        [b"Range: bytes=0-3"],
        [b"If-None-Match: *"],
        [b"X-%d: a" % n for n in range(150)],
        [b"a:"] * 999,
        [b"a:"] * 1000,
        [b"Via:"] * 60_000,
    ],
    ids=lambda headers: headers[0][:40].decode("latin-1"),
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_headers(layers: Layers, headers: list[bytes], version: bytes) -> None:
    layers.same(get(b"/track/pixel/abc", *headers, version=version))
    layers.same(get(layers.signed(), *headers, version=version))


@pytest.mark.parametrize("method", [b"HEAD", b"POST", b"OPTIONS", b"DELETE", b"get", b"GETT", b"PRI"])
def test_methods(layers: Layers, method: bytes) -> None:
    layers.same(get(b"/track/pixel/abc", b"Connection: close", method=method))
    layers.same(get(layers.signed(), b"Connection: close", method=method))


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3", b"1.1 ", b"x"])
def test_versions(layers: Layers, version: bytes) -> None:
    layers.same(get(b"/track/pixel/abc", version=version))


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n" + get(),
        b"GET  /track/pixel/abc HTTP/1.1\r\n\r\n",
        b"GET /track/pixel/abc HTTP/1.1\r\n\r\n",
        b"GET /track/pixel/abc\r\n\r\n",
        b"GET /track/pixel/abc HTTP/1.1\nHost: a\n\n",
        b"GET /track/pixel/abc HTTP/1.1\r\nHost: a\n\r\n\r\n",
        b"GET /track/pixel/abc HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
        b"GET /track/pixel/abc HTTP/1.1\r\nA: b\r\rC: d\r\n\r\n",
        b"GET /track/pixel/a b HTTP/1.1\r\n\r\n",
        b"GET /track/pixel/abc?a b HTTP/1.1\r\n\r\n",
        b"GET\t/track/pixel/abc HTTP/1.1\r\n\r\n",
        b"GET /track/pixel/abc HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /track/pixel/abc HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /track/pixel/abc HTTP/1.1\r\nContent-Length: 99\r\n\r\nGET /track/pixel/smuggled HTTP/1.1\r\n\r\n" + b" " * 62,
        b"GET /track/pixel/abc HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
        b"GET /track/pixel/abc HTTP/1.1\r\nTrailer: x\r\n\r\n",
    ],
)
def test_odd_heads(layers: Layers, request_: bytes) -> None:
    layers.same(request_)


def test_links(layers: Layers) -> None:
    good = layers.signed()
    assert b"302 Found" in layers.same(get(good))
    assert layers.lines == [{"v": 1, "k": "clicked", "t": TOKEN, "ip": "127.0.0.1", "u": "https://shop.example/a?b=1&c=2"}]
    for target in (
        layers.signed(position="7"),
        layers.signed(extra="&x=1"),
        layers.signed(extra="&url=https%3A%2F%2Fevil.example"),
        good.replace(b"&sig=", b"&amp;sig="),
        good[:-26] + good[-26:].upper(),
        good[:-1],
        good[:-1] + b"%61",
        good + b"a",
        good + b"#a",
        good[:-26],
        good.partition(b"&sig")[0],
        good.replace(b"redirect/a", b"redirect/b"),
        good.replace(b"redirect/a", b"redirect/%61"),
        layers.signed("https://user@shop.example/"),
        layers.signed("https://shop.example/" + "x" * 3_000),
        layers.signed("https://shop.example/" + "x" * 7_900),
        layers.signed("https://shop.example/%C3%A4"),
        layers.signed("https://bücher.example/ä b"),
        layers.signed("javascript:alert(1)"),
        layers.signed("https://shop.example/\r\nX: y"),
        layers.signed(token="x" * 128),
        layers.signed(token="x" * 129),
        layers.signed(token="a.gif"),
        layers.signed(token=".."),
        b"/track/redirect/abc?sig=",
        b"/track/redirect/abc?sig=%00",
        b"/track/redirect/?sig=a",
        b"/track/redirect/abc?url=sig=",
        good.replace(b"url=", b"URL="),
        good.replace(b"?", b"?&&"),
        good.replace(b"https%3A%2F%2F", b"https://"),
    ):
        layers.same(get(target))


def test_a_link_of_a_key_that_another_process_made(layers: Layers) -> None:
    url, unknown = "https://shop.example/", bytes(32)
    layers.same(get(f"/track/redirect/abc?url={quote(url, safe='')}&sig={sign(unknown, 'abc', url)}".encode()))


# -- connections


def test_a_request_in_pieces(synced: Layers) -> None:
    for request in (get(b"/track/pixel/abc", b"User-Agent: Slow"), get(synced.signed(), b"User-Agent: Slow")):
        synced.same(request[:20], request[20:])
        assert [line["ua"] for line in synced.lines] == ["Slow"]
        synced.same(request[:-1], request[-1:])
        synced.same(*[request[index : index + 10] for index in range(0, len(request), 10)])
        assert [line["ua"] for line in synced.lines] == ["Slow"]


def test_several_requests_at_once(synced: Layers) -> None:
    pixel, link, health = get(), get(synced.signed()), get(b"/health")
    for packets in (
        [pixel * 3],
        [pixel, link, pixel],
        [pixel + link + health + pixel],
        [health + pixel + link],
        [link * 2 + health * 2 + link],
        [pixel + pixel[:30], pixel[30:]],
        [pixel + health[:10], health[10:] + link],
        [pixel * 300],
        [health, pixel],
        [health + pixel[:9], pixel[9:]],
        [get(b"/track/pixel/abc", b"Connection: close") + pixel],
        [pixel, get(b"/track/pixel/abc", b"Connection: close"), pixel],
        [get(version=b"1.0") + pixel],
        [b"POST /health HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" + pixel],
        [pixel + b"garbage\r\n\r\n"],
        [health + get(b"/track/pixel/abc", b"Connection: close") + pixel],
    ):
        synced.same(*packets)


names = st.sampled_from(
    ["Accept", "User-Agent", "X-Forwarded-For", "X-Real-IP", "Connection", "Proxy-Connection", "Referer", "X-Other", "Content-Length"]
)
values = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=30).map(lambda text: text.encode("latin-1"))
targets = st.text("abc.~-_%/?#&=g0 i\xe4", max_size=20).map(lambda text: b"/track/pixel/" + text.encode("latin-1"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(targets, st.lists(st.tuples(names, values), max_size=4), st.sampled_from([b"1.1", b"1.0"]), st.integers(0, 60))
def test_any_request(layers: Layers, target: bytes, headers: list[tuple[str, bytes]], version: bytes, cut: int) -> None:
    request = get(target, *[name.encode() + b": " + value for name, value in headers], b"Connection: close", version=version)
    layers.same(*([request] if cut > 30 else [request[:cut], request[cut:]] if cut else [request]))


# -- the same without a network: the way past the parser, and the parser


class Wire(asyncio.Transport):
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 5), "sockname": ("192.0.2.2", 80)})
        self.sent, self.closing = b"", False

    def write(self, data: Any) -> None:
        self.sent += b"" if self.closing else data

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        self.closing = True

    abort = close


class Notes:
    """Stands where the spool's writer does."""

    always = quick = False

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.failures: list[BaseException] = []

    def append_many(self, lines: list[bytes]) -> bool:
        if self.failures:
            raise self.failures.pop()
        self.lines += [{**json.loads(line), "at": 0} for line in lines]
        return True


def connected(desk: HitDesk) -> HitProtocol:
    """A connection; to what is no hit the answer says what was asked."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", {"content-length", "transfer-encoding"} & {name.decode("latin-1") for name, _ in scope["headers"]}
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body")
        said = repr((scope["method"], scope["raw_path"], scope["query_string"], scope["headers"], body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
        await send({"type": "http.response.body", "body": said})

    protocol = HitProtocol(config(), ServerState(), {}, asyncio.get_running_loop())
    protocol.app, protocol.access_log, protocol.desk = application, False, desk  # type: ignore[assignment]
    protocol.connection_made(Wire())
    return protocol


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def played(packets: list[bytes], *, parsed: bool, key: bytes = bytes(32)) -> tuple[Any, ...]:
    """All that comes of the packets, each after the answer to the one before it; `parsed` has the parser read them all."""
    notes = Notes()
    protocol = connected(HitDesk(notes, None, lambda: [key], lambda *_: None))  # type: ignore[arg-type]
    wire: Any = protocol.transport
    for packet in packets:
        if not wire.closing:
            protocol.between &= not parsed
            protocol.data_received(packet)
            await turns()
    answered = wire.sent, wire.closing, notes.lines
    protocol.connection_lost(None)
    await turns()
    return answered


def hits() -> list[bytes]:
    url = "https://shop.example/?a=1"
    link = f"/track/redirect/abc?url={quote(url, safe='')}&sig={sign(bytes(32), 'abc', url)}".encode()
    return [
        get(b"/track/pixel/abc", b"User-Agent: x y", b"Connection: close"),
        get(b"/track/pixel/abc?a=b", b"proxy-connection: close", b"X-Real-IP: 192.0.2.9"),
        get(link, b"Accept: b", b"Content-Length: 0", version=b"1.0"),
        get(link, b"Connection: keep-alive", b"Via: a, b"),
        b"POST /health HTTP/1.1\r\nContent-Length: 37\r\n\r\nGET /track/pixel/abc HTTP/1.1\r\nA: b\r\n\r\n",
        b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
        get(b"/health", b"Upgrade: websocket", b"Connection: upgrade"),
    ]


odd = st.sampled_from([b"", *(bytes([byte]) for byte in b"\0\t\n\v\r #%,-/:;?_\x7f\x80\xff"), b"\r\n", b"\r\n ", b"\n\n", b"\r\n\r\n"])


@settings(max_examples=600, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(hits()), st.integers(0, 200), st.integers(0, 1), odd), min_size=1, max_size=3), st.integers(0, 400)
)
def test_a_whole_request_is_read_as_the_parser_reads_it(written: list[tuple[bytes, int, int, bytes]], cut: int) -> None:
    packets = [request[:at] + other + request[at + more :] for request, at, more, other in written]
    whole = b"".join(packets)
    for split in ([*packets, get(b"/health")], [whole[:cut], whole[cut:], get(b"/health")]):
        assert asyncio.run(played(split, parsed=False)) == asyncio.run(played(split, parsed=True))


def test_trailers_are_no_headers() -> None:
    request = b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n"
    for packets in ([request], [request[:60], request[60:]]):
        sent, *_ = asyncio.run(played([*packets, get(b"/health")], parsed=True))
        assert sent.count(b"HTTP/1.1 200 OK") == 2
        assert b"abc" in sent
        assert b"192.0.2.66" not in sent


def test_what_follows_a_request_that_ends_the_connection_does_not_spoil_its_answer() -> None:
    async def answers() -> bytes:
        protocol = connected(HitDesk(Notes(), None, tuple, lambda *_: None))  # type: ignore[arg-type]
        protocol.data_received(get(b"/track/pixel/abc", b"Connection: close"))
        protocol.data_received(b"garbage\r\n\r\n")  # before the end of the turn
        await turns()
        return protocol.transport.sent  # type: ignore[attr-defined, no-any-return]

    sent = asyncio.run(answers())
    assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert sent.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("always", [False, True])
def test_a_writer_that_fails_keeps_nobody_waiting(always: bool) -> None:
    """Whatever it raises: hits are answered, those of other connections and later ones too."""

    async def answers() -> list[int]:
        notes = Notes()
        notes.always = always
        notes.failures = [ValueError("no line")]
        desk = HitDesk(notes, None, tuple, lambda *_: None)  # type: ignore[arg-type]
        first, second = connected(desk), connected(desk)
        for protocol in (first, second, first):
            protocol.data_received(get())
            await asyncio.sleep(0.05)
        return [protocol.transport.sent.count(b"GIF89a") for protocol in (first, second)]  # type: ignore[attr-defined]

    assert asyncio.run(answers()) == [2, 1]


@pytest.mark.parametrize(("quick", "writers"), [(False, ["hit-sync_0"]), (True, ["MainThread"])])
def test_only_a_slow_disk_is_waited_for_in_a_thread(quick: bool, writers: list[str]) -> None:
    async def names() -> list[str]:
        notes, seen = Notes(), []
        notes.always, notes.quick = True, quick
        notes.append_many = lambda lines: bool(seen.append(threading.current_thread().name)) or True  # type: ignore[method-assign]
        protocol = connected(HitDesk(notes, None, tuple, lambda *_: None))  # type: ignore[arg-type]
        protocol.data_received(get())
        async with asyncio.timeout(10):
            while b"GIF89a" not in protocol.transport.sent:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
        return seen

    assert asyncio.run(names()) == writers


def test_while_a_sync_takes_long_so_many_hits_wait_and_the_others_go_djangos_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracking.serving.hits.MAX_WAITING", 3)
    go_on = threading.Event()

    async def answers() -> list[tuple[int, int]]:
        notes = Notes()
        notes.always = True
        really = notes.append_many
        notes.append_many = lambda lines: go_on.wait(10) and really(lines)  # type: ignore[method-assign]
        desk = HitDesk(notes, None, tuple, lambda *_: None)  # type: ignore[arg-type]
        first, *others = [connected(desk) for _ in range(6)]
        first.data_received(get())
        await turns()
        for protocol in others:
            protocol.data_received(get())
        await turns()
        sent = [protocol.transport.sent for protocol in others]  # type: ignore[attr-defined]
        go_on.set()
        async with asyncio.timeout(10):
            while sum(b"GIF89a" in protocol.transport.sent for protocol in (first, *others)) < 4:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
        return [(sent.count(b""), sum(b"/track/pixel/" in each for each in sent))]

    assert asyncio.run(answers()) == [(3, 2)]


def test_without_a_thread_to_be_had_hits_are_written_once_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answered() -> tuple[int, int]:
        notes = Notes()
        notes.always = True
        protocol = connected(HitDesk(notes, None, tuple, lambda *_: None))  # type: ignore[arg-type]
        with monkeypatch.context() as patched:
            patched.setattr("threading.Thread.start", Mock(side_effect=RuntimeError("can't start new thread")))
            protocol.data_received(get())
            await turns()
        protocol.data_received(get())
        await asyncio.sleep(0.05)
        return protocol.transport.sent.count(b"GIF89a"), len(notes.lines)  # type: ignore[attr-defined]

    assert asyncio.run(answered()) == (2, 2)


def test_a_connection_that_cannot_be_answered_keeps_no_other_waiting() -> None:
    async def closed_and_answers() -> tuple[bool, int]:
        desk = HitDesk(Notes(), None, tuple, lambda *_: None)  # type: ignore[arg-type]
        broken, sound = connected(desk), connected(desk)
        broken.transport.write = Mock(side_effect=RuntimeError)  # type: ignore[method-assign]
        for protocol in (broken, sound):
            protocol.data_received(get())
        await turns()
        return broken.transport.is_closing(), sound.transport.sent.count(b"GIF89a")  # type: ignore[attr-defined]

    assert asyncio.run(closed_and_answers()) == (True, 1)


def test_the_access_log_has_the_same_line_for_a_hit(caplog: pytest.LogCaptureFixture) -> None:
    async def log(in_desk: bool) -> str:
        caplog.clear()
        protocol = connected(HitDesk(Notes(), None, tuple, lambda *_: None))  # type: ignore[arg-type]
        protocol.access_log = True
        if not in_desk:
            protocol.desk = None
        protocol.data_received(get(b"/track/pixel/a.~_-?x=%20"))
        await turns()
        return caplog.messages[-1]

    with caplog.at_level("INFO", "uvicorn.access"):
        assert asyncio.run(log(in_desk=True)) == asyncio.run(log(in_desk=False))


def test_many_empty_headers_are_not_remembered() -> None:
    """A head of 256 kB holds 40,000 of them, which take 4 MB."""
    before = _told_often.cache_info().currsize
    for extra in range(3):
        read_head([(b"via", b"")] * (40_000 + extra))
    assert _told_often.cache_info().currsize == before


# -- many and slow clients


def test_who_sends_and_never_reads_holds_no_memory_and_nobody_up(layers: Layers) -> None:
    worker = layers.fast.workers()[0]
    with ExitStack() as stack:
        greedy = [stack.enter_context(layers.fast.connect(receive_buffer=4096)) for _ in range(20)]
        before = resident(worker)
        for connection in greedy:
            connection.setblocking(False)
            for _ in range(400):
                with suppress(BlockingIOError):
                    connection.send(get(b"/track/pixel/abc", b"User-Agent: " + b"x" * 900) * 60)
            assert layers.fast.get("/track/pixel/abc", timeout=5).status == 200
        assert resident(worker) - before < 100 * 2**20


def test_half_of_a_head_full_of_short_headers_takes_little_memory(layers: Layers) -> None:
    worker = layers.fast.workers()[0]
    layers.fast.get("/health")
    before = resident(worker)
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(layers.fast.connect())
            with suppress(ConnectionError):
                connection.sendall(b"GET /track/pixel/abc HTTP/1.1\r\n" + b"a:\r\n" * 60_000)
                connection.recv(1)
        assert layers.fast.get("/health").status == 200
        assert resident(worker) - before < 60 * 2**20


def test_a_client_that_leaves_before_its_answer_is_counted(synced: Layers) -> None:
    for server in (synced.fast, synced.plain):
        new_lines(server)
        with server.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
            connection.sendall(get())
        lines: list[Any] = []
        until(lambda server=server, lines=lines: lines.extend(new_lines(server)) or lines)
        assert [line["t"] for line in lines] == [TOKEN]
        assert server.get("/health").status == 200


def test_more_connections_than_open_files_lose_no_hit(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", f"ulimit -n 256; exec {sys.executable} -m tracking.server"]
    with RunningServer(tmp_path, command) as server, ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(300)]
        with suppress(ConnectionError):
            connections[-1].recv(1)  # its turn has come, so that of all others has
        answered = 0
        for connection in connections:
            with suppress(ConnectionError):
                connection.sendall(get())
                answered += b"GIF89a" in connection.recv(4096)
        assert 100 < answered < 300
        assert len(new_lines(server)) == answered
        assert "lost" not in server.log
        stack.close()
        until(lambda: server.get_or_none("/health"))


def test_who_resets_the_connection_before_it_is_accepted_is_no_proxy(layers: Layers) -> None:
    """Then there is no address to ask for any more; it would look like a Unix socket, whose X-Forwarded-For is believed."""
    for server in (layers.fast, layers.plain):
        new_lines(server)
        worker = server.workers()[0]
        os.kill(worker, signal.SIGSTOP)
        try:
            with server.connect() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(get(b"/track/pixel/abc", b"X-Forwarded-For: 203.0.113.9"))
        finally:
            os.kill(worker, signal.SIGCONT)
        lines: list[Any] = []
        until(lambda server=server, lines=lines: lines.extend(new_lines(server)) or lines)
        assert lines == [{"v": 1, "k": "opened", "t": "abc"}]


def resident(pid: int) -> int:
    pages: int = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# -- another uvicorn


def test_the_layer_fits_the_installed_uvicorn() -> None:
    assert asyncio.run(fits(config()))


@pytest.mark.parametrize("name", ["on_message_begin", "on_headers_complete", "connection_made"])
def test_where_uvicorn_is_another_the_layer_is_left_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As if a method had gone, or asked for more."""
    monkeypatch.setattr(HttpToolsProtocol, name, lambda self, one, two, three: None)
    assert not asyncio.run(fits(config()))


def config() -> Config:
    async def application(_scope: Any, _receive: Any, _send: Any) -> None: ...

    found = Config(application, log_config=None, http=TrackingProtocol)
    found.load()
    return found


def test_connections_without_requests_are_closed_in_time() -> None:
    async def closed(requests: bytes, seconds: float, unsent: int) -> bool:
        protocol = HitProtocol(config(), ServerState(), {}, asyncio.get_running_loop())
        protocol.desk = HitDesk(SpoolWriter(Path(os.devnull)), None, tuple, lambda *_: None)
        transport = Mock(is_closing=lambda: False, get_write_buffer_size=lambda: unsent)
        protocol.connection_made(transport)
        protocol.data_received(requests)
        await asyncio.sleep(0.01)
        protocol.idle_since -= seconds
        close_idle([protocol], keep_alive=15)
        return bool(transport.abort.called)

    for requests, seconds, unsent, gone in (
        (get(), 14, 0, False),
        (get(), 16, 0, True),
        (get(), 16, 1, False),
        (get(), 61, 1, True),
        (get() * 2, 16, 0, True),
        (get() + b"GET /tr", 16, 0, False),
        (get() + b"GET /tr", 61, 0, True),
        (b"", 16, 0, False),
        (b"", 61, 0, True),
    ):
        assert asyncio.run(closed(requests, seconds, unsent)) is gone, (requests, seconds, unsent)
