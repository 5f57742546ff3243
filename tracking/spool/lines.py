"""The lines of the spool: one JSON object each, ended by a newline. Pure. The format is documented in `docs/spool.md`.

`v` version · `k` kind · `t` token · `at` UTC milliseconds · `ip` · `m` method (GET when absent) · `ua` user agent · `h` kept
headers · `u` URL of a click · `n` position of its link. `{"v":1,"k":"lost","n":7}` says that seven hits before it could not
be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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

_KIND = {kind: kind.encode() for kind in EventKind}
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
        if len(_cache) >= 10_000:
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
    kind: EventKind,
    token: str,
    at: int,
    *,
    ip: str | None = None,
    told: bytes = b"",
    url: str | None = None,
    position: str = "",
) -> bytes:
    """The line of one hit. `token` is a checked one, `ip` an address, `told` from the function of that name; the rest may be anything."""
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
    if not isinstance(data, dict):
        raise BadLine("no JSON object")
    if data.get("v") != VERSION:
        raise BadLine(f"version {data.get('v')!r}; this program reads {VERSION}")
    if data.get("k") == "lost":
        lost = data.get("n")
        if not isinstance(lost, int) or lost < 0:
            raise BadLine("a loss without a number")
        return Lost(lost)
    try:
        kind = EventKind(data["k"])
        token, at = data["t"], data["at"]
    except (KeyError, ValueError) as error:
        raise BadLine(f"kind, token or time: {error}") from None
    if not isinstance(token, str) or isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < _LATEST:
        raise BadLine("kind, token or time is of the wrong type")
    ip, agent, url, position, method = data.get("ip"), data.get("ua"), data.get("u"), data.get("n"), data.get("m", "GET")
    headers = data.get("h") or {}
    for value in (ip, agent, url, position, method):
        if value is not None and not isinstance(value, str):
            raise BadLine("a text is of the wrong type")
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise BadLine("headers are of the wrong type")
    return TrackingEvent(kind, at, "hit", token=token, ip=ip, user_agent=agent, method=method, headers=headers, url=url, position=position)
