"""The fast layer: hits answered in uvicorn's protocol, before a task, a thread or Django is in it.

A request that is plainly a hit (`tracking.hits.fast`) adds its line to what this turn of the event loop brings in; at the end
of the turn all lines are written by one `write()`, and only then answered, each connection in the order of its requests. With
TRACKING_SPOOL_FSYNC=always the write and its fsync are a thread's, unless the disk is quick, and what comes meanwhile is the next
group's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from campaigns.events import now_ms
from tracking.hits.client_ip import Network
from tracking.hits.fast import Address, Head, as_sent, read_address, read_head, read_hit, read_whole
from tracking.hits.pixel import PIXEL
from tracking.hits.redirect import MAX_REMEMBERED, redirect_answer
from tracking.hits.request import Answer
from tracking.serving.protocol import MAX_HEADERS, TrackingProtocol
from tracking.spool.writer import SpoolWriter

logger = logging.getLogger("tracking.serving")

#: Hits of one connection that wait for their answers. Who sends more at once goes Django's way, where reading is paused.
MAX_IN_HAND = 128
#: The same of all connections, while one sync takes long: their lines may be 9 kB each.
MAX_WAITING = 10_000


class HitDesk:
    """Takes the hits of all connections of a worker process, and has them written and answered."""

    def __init__(
        self,
        writer: SpoolWriter,
        trusted: Sequence[Network] | None,
        keys: Callable[[], Sequence[bytes]],
        count: Callable[[str, int, int], None],
    ) -> None:
        """`count` is told of what was answered: kind, status, how many."""
        self.writer, self.trusted, self.keys, self.count = writer, trusted, keys, count
        self._lines: list[bytes] = []
        self._waiting: list[tuple[HitProtocol, str | None]] = []
        self._thread = ThreadPoolExecutor(1, "hit-sync") if writer.always else None
        self._syncing = False

    def take(self, protocol: HitProtocol, address: Address, head: Head) -> int:
        """The status with which a hit will be answered; 0 when the request is none."""
        if len(self._waiting) >= MAX_WAITING:
            return 0
        hit = read_hit(address, head, protocol.peer, now_ms(), self.trusted, self.keys())
        if hit is None:
            return 0
        if not self._waiting and not self._syncing:
            protocol.loop.call_soon(self._end_turn, protocol.loop)
        line, target = hit
        self._waiting.append((protocol, target))
        if line is not None:
            self._lines.append(line)
        return 200 if target is None else 302

    def _end_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        lines, waiting = self._lines, self._waiting
        self._lines, self._waiting = [], []
        if self._thread is None or not lines or self.writer.quick:
            self._answer(waiting, not lines or self._write(lines))
            return
        try:
            written = loop.run_in_executor(self._thread, self._write, lines)
        except RuntimeError:  # no thread is to be had, now or ever: the executor has kept the work
            logger.exception("hits are synced on the event loop from now on, slower")
            self._thread = None
            self._answer(waiting, self._write(lines))
        else:
            self._syncing = True
            written.add_done_callback(lambda done: self._end_sync(loop, waiting, done.result()))

    def _write(self, lines: list[bytes]) -> bool:
        try:
            return self.writer.append_many(lines)
        except Exception:  # it never raises; should it once, nobody waits for ever for an answer
            logger.exception("%d hits may not be written", len(lines))
            return False

    def _end_sync(self, loop: asyncio.AbstractEventLoop, waiting: list[tuple[HitProtocol, str | None]], written: bool) -> None:
        self._syncing = False
        if self._waiting:
            loop.call_soon(self._end_turn, loop)
        self._answer(waiting, written)

    def _answer(self, waiting: list[tuple[HitProtocol, str | None]], written: bool) -> None:
        clicks = sum(target is not None for _, target in waiting)
        if pixels := len(waiting) - clicks:
            self.count("pixel", 200, pixels)
        if clicks:
            self.count("redirect", 302, clicks)
        for protocol, target in waiting:
            try:
                protocol.answer(target, written)
            except Exception:  # one connection's; the others get theirs
                logger.exception("a hit could not be answered")
                protocol.transport.abort()


class InHand:
    """Stands where uvicorn keeps the request in hand, for the hits of a connection that are not answered yet."""

    message_event = asyncio.Event()  # uvicorn sets it; nobody waits for it

    def __init__(self) -> None:
        self.hits = 0
        self.response_complete = True
        self.keep_alive = True
        self.disconnected = False


class HitProtocol(TrackingProtocol):
    """One connection of a client, its hits answered here."""

    cycle: Any  # uvicorn's own, or `in_hand`

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.desk: HitDesk | None = getattr(config.app, "hits", None)
        self.in_hand = InHand()
        self.peer = ""
        self.between = True  # no byte of a next request has come to the parser

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""

    # -- reading

    def data_received(self, data: bytes) -> None:
        """One whole request, written as everybody writes it, needs no parser: half of what a hit costs without the kernel."""
        if self.between and data.endswith(b"\r\n\r\n") and self._take_whole(data):
            self._unset_keepalive_if_required()
        elif self.in_hand.hits == 0 or self.in_hand.keep_alive:  # what follows a hit that ends the connection is nobody's
            super().data_received(data)

    def _take_whole(self, data: bytes) -> bool:
        whole = read_whole(data) if len(data) <= 4 * MAX_HEADERS else None  # with more it may have too many: each has four bytes at least
        if whole is None:
            return False
        address, head, version = whole
        return head.keep_alive is not None and self._take(address, head, head.keep_alive, version)

    def on_message_begin(self) -> None:
        """No more than a hit needs; uvicorn's own, 2 µs of it, comes when Django shall answer."""
        self.in_head, self.between, self.received = True, False, 0
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        """Requests that came in pieces, or several at once."""
        parser, address = self.parser, read_address(self.url)
        if address is not None and parser.get_method() == b"GET" and (head := read_head(self.headers)) is not None:
            version = parser.get_http_version().encode()
            if version in (b"1.1", b"1.0") and self._take(address, head, parser.should_keep_alive(), version):
                return
        url, headers, expects_100 = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.expect_100_continue = url, expects_100
        self.headers += headers  # the list that uvicorn has put into the scope
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.between = True
        if self.cycle is not self.in_hand:
            super().on_message_complete()

    def _take(self, address: Address, head: Head, keep_alive: bool, version: bytes) -> bool:
        hand = self.in_hand
        # Behind a request of Django's, or one that ends the connection, a hit waits in uvicorn's line.
        in_turn = self.cycle is None or self.cycle.response_complete
        if not in_turn and not (self.cycle is hand and hand.keep_alive and hand.hits < MAX_IN_HAND):
            return False
        if self.desk is None or self.flow.write_paused or self.transport.is_closing():
            return False
        status = self.desk.take(self, address, head)
        if not status:
            return False
        self.in_head = False
        hand.hits += 1
        hand.response_complete = False
        hand.keep_alive = keep_alive and version != b"1.0"
        self.cycle = hand
        if self.access_log:
            client = f"{self.client[0]}:{self.client[1]}" if self.client else ""
            self.access_logger.info('%s - "%s %s HTTP/%s" %d', client, "GET", as_sent(address), version.decode(), status)
        return True

    # -- answering

    def answer(self, target: str | None, written: bool) -> None:
        """Send the answer to the oldest hit in hand: the pixel without a `target`."""
        hand = self.in_hand
        hand.hits -= 1
        hand.response_complete = done = hand.hits == 0
        if self.transport.is_closing():
            return
        keeps = hand.keep_alive or not done
        self.transport.write(_encoded(target, written, self.server_state.default_headers, keeps))
        if not keeps:
            self.transport.close()
        if done and self.pipeline:
            self.on_response_complete()
        else:  # without uvicorn's timer, 1.5 µs for each answer: close_idle() looks after those who bring no more
            self.server_state.total_requests += 1
            self.idle_since = self.loop.time()


ServerHeaders = list[tuple[bytes, bytes]]
#: uvicorn makes its list of headers anew each second, with the date in it; its bytes, and the whole answer of a pixel.
_second: tuple[ServerHeaders, bytes, bytes] = ([], b"", b"")


def _encoded(target: str | None, written: bool, server_headers: ServerHeaders, keep_alive: bool) -> bytes:
    """The bytes of an answer, as uvicorn would write them for Django."""
    global _second
    if _second[0] is not server_headers:
        lines = b"".join([b"%b: %b\r\n" % header for header in server_headers])
        _second = (server_headers, lines, _joined(_PIXEL, lines, keep_alive=True))
    _, lines, pixel = _second
    if target is None:
        return pixel if keep_alive else _joined(_PIXEL, lines, keep_alive)
    remembers = len(target) <= MAX_REMEMBERED
    return _joined(_redirect_often(target, written) if remembers else _redirect(target, written), lines, keep_alive)


#: What an answer has of its own: the status line, the headers, the body.
Parts = tuple[bytes, bytes, bytes]


def _joined(parts: Parts, server_lines: bytes, keep_alive: bool) -> bytes:
    status, headers, body = parts
    return b"%b%b%b%b\r\n%b" % (status, server_lines, headers, b"" if keep_alive else b"connection: close\r\n", body)


def _parts(answer: Answer) -> Parts:
    status = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
    headers = [*answer.headers, ("content-length", str(len(answer.body)))]
    return status.encode(), "".join([f"{name.lower()}: {value}\r\n" for name, value in headers]).encode("ascii"), answer.body


_PIXEL = _parts(PIXEL)


def _redirect(target: str, written: bool) -> Parts:
    return _parts(redirect_answer(target, tracked=written))


#: The links of a mail are the same for many readers.
_redirect_often = lru_cache(maxsize=1024)(_redirect)
