"""Between the event loop and Django: the loop waits for clients, a thread is held only while Django works.

a2wsgi has such a bridge, and its translation of the request is used here. Its responder is not: it sends from the thread, so
ten slow clients hold its ten threads and everybody waits, and to a chunked POST it gives Django an empty body (both tried).
Here the body is read first, an ordinary answer is complete before its first byte is sent, and of a streamed one a piece is
made only when the piece before it has left.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from tracking.serving import ingester
from tracking.serving.body import Bodies, Disconnected, Refused, discard
from tracking.serving.environ import wsgi_environ
from tracking.serving.hits import HitDesk
from tracking.spool.writer import close_writers

logger = logging.getLogger("tracking.serving")

#: Threads of a worker process: for hits, for all other requests, for the pieces of streamed answers. Hits have their own, because
#: every thread for requests may be waiting for the database (ten creates beside a locked one held up a pixel for 19 s).
THREADS = {"hit": 4, "request": 10, "stream": 4}
#: A client that takes no piece of an answer for so long is given up.
WRITE_SECONDS = 30.0
#: The size of a piece sent at once; of a streamed answer as much is collected, for so long at most.
PIECE = 64 * 1024
PIECE_SECONDS = 0.1

Scope = dict[str, Any]
WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
#: A parameter as `tracking.hits.redirect.read_link` finds it.
_SIGNATURE = re.compile(rb"(?:^|&)(?:amp;)?sig=")

T = TypeVar("T")


class Stalled(Exception):
    """The client takes nothing."""


class TrackingApplication:
    """One object for every kind of server: called with two arguments it is a WSGI application, with three (or one) an ASGI one."""

    def __init__(self, wsgi: WSGIApp, hits: HitDesk | None = None) -> None:
        """`hits` is where our own worker takes hits, before they come here."""
        self.wsgi, self.hits = wsgi, hits
        self.bodies = Bodies()
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def __call__(self, *arguments: Any) -> Any:
        if len(arguments) == 2:
            return self.wsgi(*arguments)
        if len(arguments) == 1:
            return partial(self.asgi, *arguments)
        return self.asgi(*arguments)

    async def asgi(self, scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "http":
            await Exchange(self, scope, receive, send).run()
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _live(self, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await receive()
        self._open_pools()
        ingester.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        close_writers()  # uvicorn ends by the signal it got, so nothing of atexit runs
        await asyncio.get_running_loop().run_in_executor(None, ingester.stop)
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})

    def _open_pools(self) -> None:
        """Not before the fork: threads do not survive it."""
        self._pools = self._pools or {name: ThreadPoolExecutor(threads, name) for name, threads in THREADS.items()}

    async def in_thread(self, work: Callable[[], T], pool: str) -> T:
        self._open_pools()
        return await asyncio.get_running_loop().run_in_executor(self._pools[pool], work)


class Answer:
    """What the WSGI application says. All methods but the constructor run in threads."""

    def __init__(self) -> None:
        self.status, self.headers = 0, list[tuple[bytes, bytes]]()
        self.first = b""
        self.streamed = False
        self._parts: Iterator[bytes] = iter(())
        self._close: Callable[[], None] = lambda: None

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        self.status = int(status.split(" ", 1)[0])
        self.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return self._write

    def _write(self, part: bytes) -> None:
        self.first += part

    def begin(self, wsgi: WSGIApp, environ: dict[str, Any]) -> None:
        """Call the application; take an ordinary answer whole, of a streamed one the first piece."""
        body = wsgi(environ, self.start_response)
        self._parts, self._close = iter(body), getattr(body, "close", self._close)
        if getattr(body, "streaming", not isinstance(body, list | tuple)):
            self.first += self.piece()
            self.streamed = True
        else:
            self.first += b"".join(self._parts)
            self.close()

    def piece(self) -> bytes:
        """The next piece, b"" at the end."""
        parts, size, until = [], 0, time.monotonic() + PIECE_SECONDS
        for part in self._parts:
            parts.append(part)
            size += len(part)
            if size >= PIECE or (size and time.monotonic() >= until):
                break
        return b"".join(parts)

    def next_piece(self) -> bytes:
        """The same, in a thread that may have slept for long: database connections are checked first, as Django does."""
        from django.db import close_old_connections

        close_old_connections()
        return self.piece()

    def close(self) -> None:
        close, self._close = self._close, lambda: None
        close()

    def header(self, name: bytes) -> bytes | None:
        return next((value for known, value in self.headers if known == name), None)


class Exchange:
    """One request and its answer."""

    def __init__(self, app: TrackingApplication, scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        self.app, self.scope, self.receive, self._send = app, scope, receive, send
        self.context = copy_context()  # one for all steps, whatever thread they run in
        self.connection = scope.get("extensions", {}).get("tracking.connection")
        self.bodiless = scope["method"] == "HEAD"
        self.until_close = False

    async def run(self) -> None:
        try:
            try:
                body = await self.app.bodies.read(self.scope, self.receive)
            except Refused as refused:
                await self._refuse(refused)
                return
            try:
                answer = await self._ask(body)
            finally:
                self.app.bodies.release(body)
            await self._answer(answer)
        except Disconnected:
            return
        except (Stalled, asyncio.CancelledError):  # cancelled: the server stops and has waited long enough
            await self._hang_up()

    async def _ask(self, body: bytes) -> Answer:
        answer = Answer()
        try:
            await self._in_thread(partial(answer.begin, self.app.wsgi, wsgi_environ(self.scope, body)), pool_of(self.scope))
        except Exception:
            logger.exception("%s %r failed", self.scope["method"], self.scope["path"])
            await self._close(answer)
            answer = Answer()
            answer.status = 500
            answer.headers, answer.first = _problem(500, "Internal Server Error", "The server failed; its log says why.")
        return answer

    async def _answer(self, answer: Answer) -> None:
        self.bodiless = self.bodiless or answer.status in (204, 304)
        try:
            await self._start(answer)
            await self._write(answer.first, more=answer.streamed and not self.bodiless)
            if answer.streamed and not self.bodiless:
                await self._stream(answer)
        finally:
            if answer.streamed:
                await self._close(answer)

    async def _start(self, answer: Answer) -> None:
        headers = answer.headers
        if answer.status in (204, 304):
            headers = [(name, value) for name, value in headers if name != b"content-length"]
        elif answer.header(b"content-length") is None:
            if not answer.streamed:
                headers = [*headers, (b"content-length", b"%d" % len(answer.first))]
            elif self.scope["http_version"] == "1.0" and self.connection is not None:
                self.until_close = True
                self.connection.end_with_the_connection()
        await self._send_in_time({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def _stream(self, answer: Answer) -> None:
        gone = asyncio.ensure_future(self._wait_for_disconnect())
        try:
            while not gone.done():
                try:
                    piece = await self._in_thread(answer.next_piece, "stream")
                except Exception:
                    logger.exception("%s %r failed in the middle of its answer", self.scope["method"], self.scope["path"])
                    raise Stalled from None  # the client must see that this was not the end
                await self._write(piece, more=bool(piece))
                if not piece:
                    return
        finally:
            gone.cancel()

    async def _close(self, answer: Answer) -> None:
        try:
            await self._in_thread(answer.close, "stream")
        except RuntimeError:  # the pool has been closed: the process ends
            answer.close()
        except Exception:
            logger.exception("%s %r failed at the end of its answer", self.scope["method"], self.scope["path"])

    async def _in_thread(self, work: Callable[[], T], pool: str) -> T:
        return await self.app.in_thread(partial(self.context.run, work), pool)

    # -- to the client

    async def _write(self, body: bytes, *, more: bool) -> None:
        if self.bodiless:
            body = b""
        for start in range(0, max(1, len(body)), PIECE):
            part = body[start : start + PIECE]
            if self.until_close:
                self.connection.expect(len(part))
            await self._send_in_time({"type": "http.response.body", "body": part, "more_body": more or start + PIECE < len(body)})

    async def _send_in_time(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._send(message)
        except TimeoutError:
            raise Stalled from None

    async def _refuse(self, refused: Refused) -> None:
        headers, body = _problem(refused.status, refused.title, refused.detail)
        headers.append((b"connection", b"close"))
        if refused.status == 503:
            headers.append((b"retry-after", b"1"))
        await self._send_in_time({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self._send_in_time({"type": "http.response.body", "body": body, "more_body": True})
        if refused.status == 413:
            await discard(self.receive)
        await self._send_in_time({"type": "http.response.body", "body": b"", "more_body": False})

    async def _wait_for_disconnect(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def _hang_up(self) -> None:
        if self.connection is None:
            raise ConnectionAbortedError("the client takes nothing")
        self.connection.abort()
        await self._wait_for_disconnect()


def pool_of(scope: Scope) -> str:
    """Which threads a request takes. A link without signature asks the database, so it is no hit in this sense."""
    path = scope["path"]
    if (
        path.startswith("/track/pixel/")
        or path.rstrip("/") == "/health"
        or (path.startswith("/track/redirect/") and _SIGNATURE.search(scope["query_string"]))
    ):
        return "hit"
    return "request"


def _problem(status: int, title: str, detail: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """An error as RFC 9457 has it, for what never reaches Django."""
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()
    return [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))], body
