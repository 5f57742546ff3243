"""Whether the installed uvicorn is as the fast layer knows it: tried out before it is used.

The layer subclasses uvicorn's protocol, whose inside is nobody's promise. So two requests are played through it, without a
network: a hit, and one that it has to pass on. If either goes otherwise than it should, the layer is left out and Django
answers the hits too.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from tracking.hits.pixel import GIF
from tracking.serving.hits import HitDesk, HitProtocol

logger = logging.getLogger("tracking.serving")

_REQUESTS = b"GET /track/pixel/rehearsal HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /passed%20on?q=1 HTTP/1.1\r\nHost: a\r\nX-B: c\r\n\r\n"
_STEPS = 20


class _Transport(asyncio.Transport):
    """Keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: Any) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


class _Writer:
    always = False

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def append_many(self, lines: list[bytes]) -> bool:
        self.lines += lines
        return True


async def fits(config: Config) -> bool:
    """Whether a hit is written and answered, and what is none comes to the application whole."""
    try:
        return await _rehearse(config)
    except Exception:
        logger.debug("the rehearsal of the fast layer failed", exc_info=True)
        return False


async def _rehearse(config: Config) -> bool:
    scopes: list[dict[str, Any]] = []

    async def application(scope: dict[str, Any], _receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    writer, transport = _Writer(), _Transport()
    protocol = HitProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    protocol.app, protocol.access_log = application, False  # type: ignore[assignment]
    protocol.desk = HitDesk(writer, None, tuple, lambda *_: None)  # type: ignore[arg-type]
    protocol.connection_made(transport)
    for request in _REQUESTS:
        before = len(transport.sent)
        protocol.data_received(request)
        for _ in range(_STEPS):
            if len(transport.sent) > before:
                break
            await asyncio.sleep(0)
    protocol.connection_lost(None)
    hit, _, rest = transport.sent.partition(GIF)
    scope = scopes[0] if len(scopes) == 1 else {}
    return (
        hit.startswith(b"HTTP/1.1 200 OK\r\n")
        and rest.startswith(b"HTTP/1.1 204 ")
        and len(writer.lines) == 1
        and (scope["path"], scope["query_string"], scope["method"]) == ("/passed on", b"q=1", "GET")
        and scope["headers"] == [(b"host", b"a"), (b"x-b", b"c")]
    )
