"""What the pure functions of a hit are given, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from campaigns.events import EventKind
from tracking.hits.client_ip import Network, client_ip
from tracking.spool.lines import KEPT_HEADERS, hit_line


class HitRequest(NamedTuple):
    """The facts of a request for a pixel or a link.

    A named tuple, because making a frozen dataclass takes three times as long. `token` is the rest of the path,
    percent-decoded; `query` the bytes as sent; `headers` has lower-case names and values decoded as Latin-1, repeated ones
    joined by commas; `peer` is the address at the other end of the connection, "" for a Unix socket.
    """

    method: str
    token: str
    query: bytes
    headers: Mapping[str, str]
    peer: str


class Answer(NamedTuple):
    """An answer; `headers` has no Content-Length and no Date. Whoever sends it to a HEAD leaves the body out."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


#: For everything that is counted: no cache between reader and server may answer in our place.
NO_STORE = ("Cache-Control", "no-store, no-cache, must-revalidate, private, max-age=0")


def line_of(
    kind: EventKind,
    request: HitRequest,
    token: str,
    at: int,
    trusted: Sequence[Network] | None,
    *,
    url: str | None = None,
    position: str | None = None,
) -> bytes:
    """The line of the spool for a hit on a checked token, at `at` in UTC milliseconds, with what tells people from machines."""
    headers = request.headers
    return hit_line(
        kind,
        token,
        at,
        ip=client_ip(request.peer, headers.get("x-forwarded-for", ""), headers.get("x-real-ip", ""), trusted),
        user_agent=headers.get("user-agent"),
        method=request.method,
        headers={name: value for name, value in headers.items() if name in KEPT_HEADERS},
        url=url,
        position=position,
    )
