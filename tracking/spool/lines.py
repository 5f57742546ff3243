"""The lines of the spool: one JSON object each, ended by a newline. Pure. The format is documented in `docs/spool.md`.

`v` version · `k` kind · `t` token · `at` UTC milliseconds · `ip` · `m` method (GET when absent) · `ua` user agent · `h` kept
headers · `u` URL of a click · `n` position of its link. `{"v":1,"k":"lost","n":7}` says that seven hits before it could not
be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from campaigns.events import MAX_URL, MAX_USER_AGENT, EventKind, TrackingEvent

VERSION = 1
#: A longer line was not written by us.
MAX_LINE = 131_072
_LATEST = 253_402_300_800_000  # the year 10,000

#: Headers kept with a hit, because rules that tell people from machines read them.
KEPT_HEADERS = frozenset({
    "accept", "accept-language", "purpose", "sec-purpose", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user",
    "x-moz", "x-purpose", "x-requested-with", "referer", "via",
})  # fmt: skip
MAX_HEADER = 256

#: Longer texts than this are encoded anew each time, so that who sends long ones fills no memory.
MAX_KEPT = 1024
#: How many are remembered: 4 kB each at worst.
MAX_TEXTS = 2_000

_KIND = {kind: kind.encode() for kind in EventKind}
_KINDS = {kind.value: kind for kind in EventKind}
_TEXT = {str}
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_cache: dict[str, bytes] = {}


@dataclass(frozen=True, slots=True)
class Lost:
    """A line that says how many hits a full disk swallowed."""

    hits: int


class BadLine(ValueError):
    """A line that says nothing we understand."""


def _text(value: str) -> bytes:
    """A JSON string. Agents and headers repeat, so what was encoded is kept."""
    encoded = _cache.get(value)
    if encoded is None:
        if len(_cache) >= MAX_TEXTS:
            _cache.clear()
        encoded = _cache[value] = _json(value)
    return encoded


def _json(value: str) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # half of a surrogate pair
        return orjson.dumps(value.encode("utf-8", "replace").decode("utf-8"))


def told(method: str = "GET", user_agent: str | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    """The part of a line that says who asked and how. The texts may be anything and are cut to their limits."""
    parts = []
    if method != "GET":
        parts.append(b',"m":%b' % _text(method[:16]))
    if user_agent:
        parts.append(b',"ua":%b' % _text(user_agent[:MAX_USER_AGENT]))
    if headers:
        pairs = b",".join(b"%b:%b" % (_text(name), _text(value[:MAX_HEADER])) for name, value in headers.items())
        parts.append(b',"h":{%b}' % pairs)
    return b"".join(parts)


def hit_line(
    kind: EventKind, token: str, at: int, ip: str | None = None, told: bytes = b"", url: str | None = None, position: str = ""
) -> bytes:
    """The line of one hit, at `at` in UTC milliseconds.

    `token` is a checked one, `ip` an address, `told` from the function of that name; the rest may be anything.
    """
    address = b',"ip":"%b"' % ip.encode() if ip else b""
    if url is None:
        return b'{"v":1,"k":"%b","t":"%b","at":%d%b%b}\n' % (_KIND[kind], token.encode(), at, address, told)
    link = _json(url[:MAX_URL]) if len(url) > MAX_KEPT else _text(url)
    if position:
        link += b',"n":' + _text(position[:32])
    return b'{"v":1,"k":"%b","t":"%b","at":%d%b%b,"u":%b}\n' % (_KIND[kind], token.encode(), at, address, told, link)


def lost_line(hits: int) -> bytes:
    return b'{"v":1,"k":"lost","n":%d}\n' % hits


def parse_line(line: bytes) -> TrackingEvent | Lost:
    """What a line says. Raises BadLine."""
    if len(line) > MAX_LINE:
        raise BadLine(f"a line of {len(line)} bytes; {MAX_LINE} is the most")
    try:
        data = orjson.loads(line)
    except ValueError as error:
        raise BadLine(f"no JSON: {error}") from None
    if type(data) is not dict:
        raise BadLine("no JSON object")
    return _said(**data)


def _said(
    v: Any = None, k: Any = None, t: Any = None, at: Any = None, ip: Any = None,
    m: Any = None, ua: Any = None, h: Any = None, u: Any = None, n: Any = None, **_: Any,
) -> TrackingEvent | Lost:  # fmt: skip
    """The keys of a line as arguments: a third of the time of looking each one up."""
    if v != VERSION:
        raise BadLine(f"version {v if type(v) is int else type(v).__name__}; this program reads {VERSION}")
    if k == "lost":
        if type(n) is not int or n < 0:
            raise BadLine("a loss without a number")
        return Lost(n)
    kind = _KINDS.get(k) if type(k) is str else None
    if kind is None or type(t) is not str or type(at) is not int or not 0 <= at < _LATEST:
        raise BadLine("kind, token or time is missing or wrong")
    if not (
        (ip is None or type(ip) is str)
        and (m is None or type(m) is str)
        and (ua is None or type(ua) is str)
        and (u is None or type(u) is str)
        and (n is None or type(n) is str)
    ):
        raise BadLine("a text is of the wrong type")
    if h is None:
        h = _NO_HEADERS
    elif type(h) is not dict or not set(map(type, h.values())) <= _TEXT:
        raise BadLine("headers are of the wrong type")
    return TrackingEvent(kind, at, "hit", None, t, None, ip, ua, "GET" if m is None else m, h, u, n)
