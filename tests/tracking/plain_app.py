"""A small WSGI application under our worker: what the bridge does, without Django in between."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracking.serving import asgi, body, protocol
from tracking.serving.asgi import TrackingApplication

Start = Callable[..., Any]
FOLDER = Path(os.environ["PLAIN_APP_FOLDER"])


class Streamed:
    streaming = True

    def __init__(self, parts: Iterator[bytes]) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[bytes]:
        return self.parts

    def close(self) -> None:
        with (FOLDER / "closed").open("a") as file:
            file.write("closed\n")


def plain(environ: dict[str, Any], start: Start) -> Any:
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/health":
        return answer(start, b'{"status":"healthy"}', "application/json")
    if path == "/environ":
        sent = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        seen: dict[str, Any] = {name: value for name, value in environ.items() if isinstance(value, str)}
        seen |= {"body_size": len(sent), "body": sent[:100].decode("latin-1")}
        return answer(start, json.dumps(seen).encode(), "application/json")
    if path == "/stream":
        start("200 OK", [("Content-Type", "text/csv")])
        return Streamed(line for _ in range(int(query)) for line in [b"x" * 65_536])
    if path == "/breaks":
        start("200 OK", [("Content-Type", "text/csv")])
        return Streamed(breaking())
    if path == "/large":
        return answer(start, b"y" * int(query))
    if path == "/slow":
        time.sleep(float(query))
        return answer(start, b"done")
    if path == "/nothing":
        start("304 Not Modified", [("Content-Length", "5")])
        return []
    if path == "/fails":
        raise RuntimeError("as asked")
    start("404 Not Found", [])
    return [b"no such page"]


def breaking() -> Iterator[bytes]:
    yield b"x" * 65_536
    yield b"x" * 65_536
    raise RuntimeError("in the middle")


def answer(start: Start, text: bytes, kind: str = "text/plain") -> list[bytes]:
    start("200 OK", [("Content-Type", kind)])
    return [text]


def create() -> TrackingApplication:
    import django

    if seconds := os.environ.get("PLAIN_APP_PATIENCE"):
        asgi.WRITE_SECONDS = body.BODY_SECONDS = protocol.HEAD_SECONDS = float(seconds)

    django.setup()
    return TrackingApplication(plain)
