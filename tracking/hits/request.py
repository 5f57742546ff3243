"""What the pure functions of a hit are given, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracking.hits.client_ip import Network, client_ip
from tracking.spool.lines import KEPT_HEADERS, told


class HitRequest(NamedTuple):
    """The facts of a request for a pixel or a link, beside its path.

    `query` is the bytes as sent; `ip` the address of the client, None where nothing tells; `told` what else tells people from
    machines, as `tracking.spool.lines.told` writes it.
    """

    query: bytes
    ip: str | None
    told: bytes


def hit_request(method: str, query: bytes, headers: Mapping[str, str], peer: str, trusted: Sequence[Network] | None) -> HitRequest:
    """The facts out of a whole request.

    `headers` has lower-case names and values decoded as Latin-1, repeated ones joined by commas; `peer` is the address at the
    other end of the connection, "" for a Unix socket; `trusted` as for `client_ip`.
    """
    ip = client_ip(peer, headers.get("x-forwarded-for", ""), headers.get("x-real-ip", ""), trusted)
    kept = {name: value for name, value in headers.items() if name in KEPT_HEADERS}
    return HitRequest(query, ip, told(method, headers.get("user-agent"), kept))


class Answer(NamedTuple):
    """An answer; `headers` has no Content-Length and no Date. Whoever sends it to a HEAD leaves the body out."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


#: For everything that is counted: no cache between reader and server may answer in our place.
NO_STORE = ("Cache-Control", "no-store, no-cache, must-revalidate, private, max-age=0")
#: What Django's middleware would add, said here because the fast layer has no middleware.
SECURITY = (("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "same-origin"), ("Cross-Origin-Opener-Policy", "same-origin"))
