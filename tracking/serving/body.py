"""Request bodies, read on the event loop before a thread is taken: half-sent ones hold none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

MB = 1024 * 1024
MAX_BODY = 16 * MB
MAX_WEBHOOK = 8 * MB
#: A body has this long, and longer as it grows.
BODY_SECONDS = 30.0
BODY_BYTES_PER_SECOND = 50_000
#: All bodies in memory at once, per worker process.
MAX_HELD = 256 * MB
#: Who sends too much is listened to for this long, or it would never read why.
LINGER_SECONDS = 5.0

Receive = Callable[[], Awaitable[Any]]


class Refused(Exception):
    """A body that is not read to its end, and what the client is told."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail


class Disconnected(Exception):
    """The client has gone."""


class Bodies:
    """Reads them, and counts what is in memory."""

    def __init__(self) -> None:
        self.held = 0

    async def read(self, scope: dict[str, Any], receive: Receive) -> bytes:
        """The whole body; count it out with `release()` when it is done with. Raises Refused and Disconnected."""
        headers = dict(scope["headers"])
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return b""
        limit = MAX_WEBHOOK if scope["path"].startswith("/webhooks/") else MAX_BODY
        if int(headers.get(b"content-length", 0)) > limit:
            raise _too_large(limit)
        body = bytearray()
        try:
            await self._fill(body, limit, receive)
        except BaseException:
            self.held -= len(body)
            raise
        return bytes(body)

    def release(self, body: bytes) -> None:
        self.held -= len(body)

    async def _fill(self, body: bytearray, limit: int, receive: Receive) -> None:
        started, more = asyncio.get_running_loop().time(), True
        try:
            async with asyncio.timeout(BODY_SECONDS) as deadline:
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Disconnected
                    body += (part := message.get("body", b""))
                    self.held += len(part)
                    more = message.get("more_body", False)
                    if len(body) > limit:
                        raise _too_large(limit)
                    if self.held > MAX_HELD:
                        raise Refused(503, "Service Unavailable", "Too many large requests at once: try again in a moment.")
                    deadline.reschedule(started + BODY_SECONDS + len(body) / BODY_BYTES_PER_SECOND)
        except TimeoutError:
            raise Refused(408, "Request Timeout", "The body of the request did not arrive in time.") from None


async def discard(receive: Receive) -> None:
    """Read on without keeping, so that a client in the middle of sending comes to read its answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def _too_large(limit: int) -> Refused:
    return Refused(413, "Content Too Large", f"The body of the request may have {limit // MB} MB at most.")
