"""Which address a link may lead to, judged as a browser would read it (WHATWG URL). Pure.

Browsers forgive much: they strip spaces, drop tabs and newlines, read `\\` as `/` and `https:evil` or `///evil` as addresses.
What they would have to repair is refused; what is left says the same to a browser, to Python and to a reader. A user name
(`https://good.com@evil.com` shows one host and leads to another) is left to the caller: only who signs a link may want one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Set
from functools import lru_cache
from urllib.parse import quote

import idna

#: The longest target, in bytes, once encoded.
MAX_TARGET = 8_000
#: Longer addresses are judged anew each time.
MAX_REMEMBERED = 1_000

_AROUND = "".join(map(chr, range(0x21)))  # what a browser strips at both ends: C0 controls and the space
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SHAPE = re.compile(r"(https?://)([^/?#]*)(.*)", re.IGNORECASE | re.ASCII | re.DOTALL)
_AUTHORITY = re.compile(r"([A-Za-z0-9._~!$&'()*+,;=:%-]*@)?(\[[^\[\]]*\]|[^:@\[\]]+)((?::[0-9]{0,5})?)")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE | re.ASCII)
_KEPT = "".join(map(chr, range(0x21, 0x7F)))  # every ASCII character stays as it is, `%` too


class BadTarget(ValueError):
    """An address no link may lead to. The text says why, in words for who made the link."""


def normalise_target(url: str) -> str:
    """The address as it goes into `Location`: ASCII, `http://` or `https://`, no space, no control character, 8,000 bytes at most.

    The host goes through IDNA, spaces and letters beyond ASCII are percent-encoded; every other byte stays as it was. Applied
    twice it changes nothing more. Raises BadTarget.
    """
    return _normalise_often(url) if len(url) <= MAX_REMEMBERED else _normalise(url)


def _normalise(url: str) -> str:
    target = url.strip(_AROUND)
    if len(target) > MAX_TARGET:
        raise BadTarget(f"the address has more than {MAX_TARGET} bytes")
    if _CONTROL.search(target):
        raise BadTarget("the address has control characters in it")
    shape = _SHAPE.fullmatch(target)
    if shape is None:
        raise BadTarget("the address does not begin with http:// or https://")
    scheme, authority, rest = shape.groups()
    target = scheme + _checked(authority) + _encoded(rest)
    if len(target) > MAX_TARGET:
        raise BadTarget(f"the address has more than {MAX_TARGET} bytes")
    return target


#: The links of a mail are the same for many readers.
_normalise_often = lru_cache(maxsize=4096)(_normalise)


def host_of(target: str) -> str:
    """The host of a normalised target: in lower case, without user name, port and dot at the end; IPv6 in its brackets."""
    host = _authority_of(target).rpartition("@")[2].lower()
    return re.sub(r":[0-9]*\Z", "", host).rstrip(".")


def has_userinfo(target: str) -> bool:
    """Whether a normalised target has a user name before its host."""
    return "@" in _authority_of(target)


def host_matches(host: str, patterns: Set[str]) -> bool:
    """Whether a host is one of the patterns: a host, or `*.domain` for every host below that domain."""
    if host in patterns:
        return True
    labels = host.split(".")
    return any("*." + ".".join(labels[start:]) in patterns for start in range(1, len(labels)))


def _authority_of(target: str) -> str:
    return re.split("[/?#]", target.partition("://")[2], maxsplit=1)[0]


def _encoded(rest: str) -> str:
    if rest.isascii() and " " not in rest:
        return rest
    try:
        return quote(rest, safe=_KEPT, errors="surrogateescape")  # bytes that are no UTF-8 stay those bytes
    except UnicodeEncodeError:
        raise BadTarget("the address is no text") from None


@lru_cache(maxsize=1024)
def _checked(authority: str) -> str:
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise BadTarget("the host of the address cannot be read")
    user, host, port = parts.groups(default="")
    if port > ":" and int(port[1:]) > 65_535:
        raise BadTarget("the address has a port above 65535")
    return user + _host(host) + port


def _host(host: str) -> str:
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise BadTarget("the host of the address is no IPv6 address") from None
        if "%" in host:
            raise BadTarget("the host of the address names a network interface")
        return host
    if not host.isascii():
        host = _to_ascii(host)
    if not _HOST.fullmatch(host):
        raise BadTarget("the host of the address is no host name")
    return host


def _to_ascii(host: str) -> str:
    """As browsers do it: UTS 46, non-transitional, without the stricter rules of IDNA 2008 (https://i❤.example works in them)."""
    try:
        mapped = idna.uts46_remap(host, std3_rules=False, transitional=False)
        return ".".join(
            label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii") for label in re.split("[.。．｡]", mapped)
        )
    except (idna.IDNAError, UnicodeError):
        raise BadTarget("the host of the address is no host name") from None
