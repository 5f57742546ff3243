"""The redirect: what a tracked link says, whether it is signed, the click to be written down and the answer.

A signed link needs nothing but the keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

from campaigns.events import EventKind
from campaigns.tokens import is_token
from tracking.hits.request import NO_STORE, SECURITY, Answer
from tracking.signing import verify
from tracking.spool.lines import hit_line

#: Longer targets are read, and their answers written, anew each time.
MAX_REMEMBERED = 1000


class TrackedLink(NamedTuple):
    """What the address of a link says. `url` is as it was sent (bytes that are no UTF-8 as surrogates), None where there is none.

    `signature` is None for an unsigned link, and "" for one whose signature is empty: that one is signed, and wrongly.
    """

    token: str
    url: str | None
    position: str
    signature: str | None


def read_link(token: str, query: bytes) -> TrackedLink:
    """Read `url`, `n` and `sig`, each where it stands first.

    `+` is a plus, as `urllib.parse.quote` means it. `&amp;sig=` is read like `&sig=`: some mail software escapes an address
    that was escaped already.
    """
    found: dict[bytes, bytes] = {}
    for parameter in query.split(b"&"):
        name, _, value = parameter.partition(b"=")
        found.setdefault(name.removeprefix(b"amp;"), value)
    url, position, signature = found.get(b"url"), found.get(b"n"), found.get(b"sig")
    return TrackedLink(
        token,
        None if not url else _read_often(url) if len(url) <= MAX_REMEMBERED else _read(url),
        "" if position is None else _read(position),
        None if signature is None else _read(signature),
    )


def _read(value: bytes) -> str:
    return (unquote_to_bytes(value) if b"%" in value else value).decode("utf-8", "surrogateescape")


#: The links of a mail are the same for many readers; decoding one takes 3 µs.
_read_often = lru_cache(maxsize=4096)(_read)


def is_signed(link: TrackedLink, keys: Iterable[bytes]) -> bool:
    """Whether one of our keys signed this very link."""
    if link.signature is None or link.url is None or not is_token(link.token):
        return False
    return verify(keys, link.token, link.url, link.position, link.signature)


def click_line(link: TrackedLink, target: str, at: int, ip: str | None, told: bytes) -> bytes:
    """The click to be written down, as `hit_line` has it. The link's token is a checked one."""
    return hit_line(EventKind.CLICKED, link.token, at, ip, told, target, link.position)


def redirect_answer(target: str, *, tracked: bool = True) -> Answer:
    """To the target, a normalised one. `tracked` says whether the click was written down; a full disk breaks no link."""
    body = orjson.dumps({"redirect": target, "tracked": tracked})
    return Answer(302, (("Content-Type", "application/json"), ("Location", target), NO_STORE, *SECURITY), body)
