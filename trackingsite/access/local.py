"""The local rule: a request from this machine needs no key until the first one was made. Pure.

Loopback alone proves little: a proxy on this machine makes everybody's requests from there, and a page of a stranger can
make the browser send them. So the peer must also run as the server's own user or as root, as PostgreSQL's `peer` does
(a bare `proxy_pass` of nginx from 1.29.7 on cannot be told from curl otherwise: HTTP/1.1, its Host ours, no header of a proxy), and
must look like a program or a page of this very site. Every refusal is a sentence that says which of it did not hold.
"""

from __future__ import annotations

import ipaddress
import os
import re
import struct
import sys
from collections.abc import Container, Mapping
from urllib.parse import urlsplit

from trackingsite.access import peer
from trackingsite.access.peer import Address

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[^\s:@/\[\]]{1,253})(?::[0-9]{1,5})?")
_PROXY_HEADERS = ("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP")


def why_closed(*, local_access: bool, base_url: str, trusted_proxies: object | None) -> str | None:
    """Why the settings let nobody in by the local rule; None while they do."""
    if not local_access:
        return "TRACKING_LOCAL_ACCESS is False."
    if trusted_proxies is not None:
        return "TRACKING_TRUSTED_PROXIES is set, so requests are taken to come through a proxy."
    if base_url and not is_local_host(urlsplit(base_url).hostname or ""):
        return "TRACKING_BASE_URL names a public address."
    return None


def why_not_local(meta: Mapping[str, str], *, more_hosts: Container[str] = (), uids: Container[int] | None = None) -> str | None:
    """Why this request is not let in by the local rule, whatever the settings; None where it is.

    `meta` is the WSGI environ. `more_hosts` are names that count as this machine (a test environment's). `uids` are the
    users whose programs are let in: the server's own and root.
    """
    address = _address(meta.get("REMOTE_ADDR", ""))
    if address is None or not address.is_loopback:
        return f"The request comes from another machine ({meta.get('REMOTE_ADDR') or 'its address is not known'})."
    for name in meta:
        if name in _PROXY_HEADERS or name.startswith("HTTP_X_FORWARDED"):
            return f"The request came through a proxy: it has the header {name[5:].replace('_', '-').title()}."
    if meta.get("SERVER_PROTOCOL") != "HTTP/1.1":
        return "The request is not HTTP/1.1, so it may have come through a proxy."
    host = meta.get("HTTP_HOST", meta.get("SERVER_NAME", "") if meta.get("SERVER_NAME") in more_hosts else "")
    match = _HOST.fullmatch(host)
    if match is None or not (is_local_host(match[1]) or match[1] in more_hosts):
        return f"The request is for the host {host[:100]!r}; it must be localhost, 127.0.0.1 or [::1]."
    if meta.get("REQUEST_METHOD") not in SAFE_METHODS and (sender := _foreign_page(meta, host)):
        return f"The request was sent by a page of another site ({sender[:100]})."
    if sys.platform == "linux" and meta.get("REMOTE_PORT"):
        return _why_not_our_user(meta, address, {os.geteuid(), 0} if uids is None else uids)
    return None


def is_local_host(name: str) -> bool:
    """Whether a host name without port means this machine: localhost, 127.0.0.0/8, ::1 (with or without brackets), 0.0.0.0."""
    if name.lower() == "localhost":
        return True
    address = _address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    return address is not None and (address.is_loopback or address == ipaddress.IPv4Address(0))


def _foreign_page(meta: Mapping[str, str], host: str) -> str | None:
    """The site of the page that sent a request, where a browser says that it is another one than ours."""
    site, origin = meta.get("HTTP_SEC_FETCH_SITE"), meta.get("HTTP_ORIGIN")
    if origin is not None and origin.lower() != f"{meta.get('wsgi.url_scheme', 'http')}://{host}".lower():
        return origin or "unknown"
    return site if site not in (None, "same-origin") else None


def _why_not_our_user(meta: Mapping[str, str], address: Address, uids: Container[int]) -> str | None:
    try:
        owner = peer.uid(address, int(meta["REMOTE_PORT"]), _address(meta.get("SERVER_NAME", "")), int(meta.get("SERVER_PORT", "")))
    except (ValueError, OSError, struct.error):
        return "Which user's program sent the request could not be found out."
    if owner is None:
        return "No program of this machine is known to hold the other end of the connection."
    return None if owner in uids else f"The program that sent the request runs as another user (uid {owner}) than the server."


def _address(text: str) -> Address | None:
    """An address; an IPv4 address written as IPv6 (`::ffff:127.0.0.1`) is the IPv4 address it is."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
