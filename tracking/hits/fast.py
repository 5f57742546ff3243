"""Which requests the fast layer may answer by itself, and what it writes down for them.

It takes what is plainly a hit: a GET without a body, of a pixel or of a link that we signed, its address written without a
detour. For those it calls the very functions that Django's views call. Everything else it leaves to Django, which answers all
of them; so this layer can be left out and nothing changes but the speed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from tracking.hits.client_ip import Network, client_ip
from tracking.hits.pixel import pixel_line
from tracking.hits.redirect import click_line, is_signed, read_link
from tracking.spool.lines import KEPT_HEADERS, MAX_KEPT, told
from tracking.targets import BadTarget, normalise_target

Headers = Sequence[tuple[bytes, bytes]]

#: The address of a hit: its kind, its token, its query (None without a `?`).
Address = tuple[bytes, bytes, bytes | None]

#: A path without percent signs, a slash at its end or anything else that a URL parser would have to think about. Whether the query
#: is one is seen later, in less time than here.
_ADDRESS = rb"/track/(pixel|redirect)/([A-Za-z0-9_.~-]{1,132})(?:\?([^ ]*))?"
_URL = re.compile(_ADDRESS)
_REQUEST_LINE = re.compile(rb"GET " + _ADDRESS + rb" HTTP/(1\.[01])\r\n")
#: What a query may consist of: printable ASCII, but no `#`.
_QUERY = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
#: A header as everybody writes it: no white space but one after the colon and within the value, no control character.
_HEADER = re.compile(rb"([A-Za-z0-9-]+): ?([!-~\x80-\xff](?:[ -~\x80-\xff]*[!-~\x80-\xff])?)?")

#: How many heads are remembered: who makes up ever new ones of 1 kB fills 20 MB with them, not more.
MAX_HEADS = 1024
#: More kept headers than this are read anew each time: empty ones are short, and each takes a hundred bytes of memory.
_MANY = 20

#: What a header is here: part of what is kept, a proxy's word for the client, whether the connection stays (httptools reads it out
#: of both), or a sign of more than a hit.
_KEPT, _PROXY, _CONNECTION, _MORE = range(4)
_ROLES = {
    **{name.encode(): _KEPT for name in (*KEPT_HEADERS, "user-agent")},
    **dict.fromkeys((b"x-forwarded-for", b"x-real-ip"), _PROXY),
    **dict.fromkeys((b"connection", b"proxy-connection"), _CONNECTION),
    **dict.fromkeys((b"content-length", b"transfer-encoding", b"upgrade", b"expect"), _MORE),
}


class Head(NamedTuple):
    """What the headers of a hit say: who asked and how (`tracking.spool.lines.told`), the proxies' words for the client, whether
    the connection is kept (by its header, None where it says something else)."""

    told: bytes
    forwarded: str
    real: str
    keep_alive: bool | None


def read_address(url: bytes) -> Address | None:
    """What the target of a GET says, as it was sent; None for what is plainly no hit."""
    matched = _URL.fullmatch(url)
    return None if matched is None else matched.groups()  # type: ignore[return-value]


def as_sent(address: Address) -> str:
    """The target of the request, for a log."""
    kind, token, query = address
    return f"/track/{kind.decode()}/{token.decode()}" + ("" if query is None else f"?{query.decode('ascii')}")


def read_whole(data: bytes) -> tuple[Address, Head, bytes] | None:
    """One whole GET, with its version ("1.1" or "1.0"), as programs write it; None where a parser should read it."""
    matched = _REQUEST_LINE.match(data)
    if matched is None:
        return None
    kind, token, query, version = matched.groups()
    head = parse_head(data[matched.end() :])
    return None if head is None else ((kind, token, query), head, version)


def parse_head(block: bytes) -> Head | None:
    """The headers of a request as they came, with the empty line behind them; None where a parser should read them.

    Programs send the same ones again and again, so what was read is remembered: 0.2 µs instead of 10.
    """
    return _parse_often(block) if len(block) <= MAX_KEPT else _parse(block)


def _parse(block: bytes) -> Head | None:
    lines = block.split(b"\r\n")
    if lines[-2:] != [b"", b""]:
        return None
    headers = []
    for line in lines[:-2]:
        header = _HEADER.fullmatch(line)
        if header is None:
            return None
        headers.append((header[1].lower(), header[2] or b""))
    return read_head(headers)


_parse_often = lru_cache(maxsize=MAX_HEADS)(_parse)


def read_head(headers: Headers) -> Head | None:
    """Headers with names in lower case; None for those of a request that has, or wants, more than a hit."""
    kept: list[tuple[bytes, bytes]] = []
    proxied: list[tuple[bytes, bytes]] = []
    connection = b""
    for header in headers:
        role = _ROLES.get(header[0])
        if role == _KEPT:
            kept.append(header)
        elif role == _PROXY:
            proxied.append(header)
        elif role == _MORE:
            return None
        elif role == _CONNECTION:
            connection += b"," * bool(connection) + header[1].lower()
    words = _texts(proxied)
    size = sum([len(value) for _, value in kept])
    said = _told_often(tuple(kept)) if size <= MAX_KEPT and len(kept) <= _MANY else _told(tuple(kept))
    keep_alive = {b"": True, b"keep-alive": True, b"close": False}.get(connection)
    return Head(said, words.get("x-forwarded-for", ""), words.get("x-real-ip", ""), keep_alive)


def _told(kept: Headers) -> bytes:
    texts = _texts(kept)
    user_agent = texts.pop("user-agent", None)
    return told("GET", user_agent, texts)


_told_often = lru_cache(maxsize=MAX_HEADS)(_told)


def _texts(headers: Headers) -> dict[str, str]:
    """As WSGI has them: Latin-1, repeated ones joined by commas."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return {name.decode(): b",".join(found).decode("latin-1") for name, found in values.items()}


def read_hit(
    address: Address, head: Head, peer: str, at: int, trusted: Sequence[Network] | None, keys: Sequence[bytes]
) -> tuple[bytes | None, str | None] | None:
    """The hit that a GET is, at `at` in UTC milliseconds; None where Django shall answer.

    Its line for the spool (None where the address holds no token), and where it leads (None for a pixel). `peer` and `trusted`
    are as for `client_ip`, `keys` those that sign links.
    """
    kind, token, query = address
    if query and query.translate(None, _QUERY):
        return None
    ip = client_ip(peer, head.forwarded, head.real, trusted)
    if kind == b"pixel":
        return pixel_line(token.decode(), at, ip, head.told), None
    link = read_link(token.decode(), query or b"")
    if not is_signed(link, keys):
        return None
    try:
        target = normalise_target(link.url or "")
    except BadTarget:
        return None
    return click_line(link, target, at, ip, head.told), target
