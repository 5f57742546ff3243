"""uvicorn's HTTP protocol, with the bounds that it lacks and the two handles on a connection that ASGI does not have."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

#: Request line and headers; uvicorn's parser has no limit of its own.
MAX_HEAD = 256 * 1024
#: Header lines. Each takes a hundred bytes of memory at least: a head of 256 kB that was full of short ones took 7 MB.
MAX_HEADERS = 1000
#: All bytes of one request as they came, chunk sizes and trailers included (a body has a limit of its own).
MAX_REQUEST = 128 * 1024 * 1024
#: Requests of one connection that wait for the one before them; each takes some 3 kB.
MAX_PIPELINED = 1000
#: How long a connection may take to bring the head of a request, keep-alive included.
HEAD_SECONDS = 60.0

#: Open files that a worker process needs for itself: with none left the spool cannot begin a segment, and hits would be answered and lost.
RESERVED_FILES = 200

#: Who has reset the connection before it was accepted has no address any more. Without one it would look like a Unix socket,
#: whose headers are believed.
UNKNOWN = ("unknown", 0)

TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain\r\ncontent-length: 23\r\nconnection: close\r\n\r\n"
    b"The headers are too big"
)


class Connection:
    """What the wrapper may do with the connection of a request, beyond what ASGI says."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def abort(self) -> None:
        """Drop it at once, with what is still unsent."""
        self._cycle.transport.abort()

    def end_with_the_connection(self) -> None:
        """Before the headers of an answer of unknown length to HTTP/1.0, which knows no chunks: it ends where the connection does."""
        self._cycle.chunked_encoding = False

    def expect(self, size: int) -> None:
        """The next `size` bytes belong to such an answer; uvicorn counts them against a length."""
        self._cycle.expected_content_length = size


class TrackingProtocol(HttpToolsProtocol):
    """One connection of a client."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            transport.abort()
        if self.client is None and self.server is not None and self.server[1] is not None:
            self.client = UNKNOWN
        self.idle_since = self.loop.time()
        self.in_head = True
        self.received = 0

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.received += len(data)
        if self.received > MAX_HEAD and not self.transport.is_closing():
            if self.in_head:
                self.transport.write(TOO_LARGE)
                self.transport.close()
            elif self.received > MAX_REQUEST:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_head = True
        self.received = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:  # a trailer: behind a proxy that passes it on, it would speak in the proxy's name
            return
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            raise ValueError("too many headers")  # the parser ends with it, and uvicorn answers 400

    def on_headers_complete(self) -> None:
        self.in_head = False
        if len(self.pipeline) < MAX_PIPELINED:
            super().on_headers_complete()
        else:
            self.transport.abort()

    def on_response_complete(self) -> None:
        self.idle_since = self.loop.time()
        super().on_response_complete()
        if self.pipeline:  # uvicorn reads on after each answer, so who sends faster than we answer would fill the memory
            self.flow.pause_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cast("dict[str, Any]", cycle.scope)["extensions"] = {"tracking.connection": Connection(cycle)}
        super()._start_asgi_task(cycle, app)

    @property
    def idle_seconds(self) -> float:
        """How long there has been no request in hand."""
        idle = self.cycle is None or self.cycle.response_complete
        return self.loop.time() - self.idle_since if idle else 0.0


def most_connections() -> float:
    """How many connections a worker process may have, by the limit of its open files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if files == resource.RLIM_INFINITY else max(files // 2, files - RESERVED_FILES)


def close_idle(connections: Iterable[object], keep_alive: float) -> None:
    """Close connections that bring no request: `keep_alive` seconds after an answer, later in the middle of a head, before the first, or
    with a part of an answer unsent.

    uvicorn's own timer stops at the first byte of a next request, and hits set none.
    """
    for connection in list(connections):
        if isinstance(connection, TrackingProtocol):
            busy = connection.in_head or connection.transport.get_write_buffer_size()
            if connection.idle_seconds > (HEAD_SECONDS if busy else keep_alive):
                connection.transport.abort()
