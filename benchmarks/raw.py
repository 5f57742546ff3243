"""The peer of the hot path: an ASGI callable that answers with the same pixel and does nothing else.

gunicorn -k uvicorn_worker.UvicornWorker benchmarks.raw:app
"""

from __future__ import annotations

from typing import Any

GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
HEADERS = [
    (b"content-type", b"image/gif"),
    (b"content-length", b"43"),
    (b"cache-control", b"no-store, no-cache, must-revalidate, private, max-age=0"),
]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"  # uvicorn takes the error for "no lifespan here"
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": GIF})
