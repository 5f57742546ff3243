"""Whose program holds the other end of a TCP connection on this machine (Linux). Pure.

The kernel answers for one connection in 20 µs (sock_diag(7)); listing them all in `/proc/net/tcp` took 3,400 µs, so that is
for where it does not: a kernel without tcp_diag, or a server that does not know to which of its addresses the peer connected.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

PROC = Path("/proc/net")
ESTABLISHED = 1
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _NO_COOKIE = 4, 20, 1, 0xFFFFFFFF
#: nlmsghdr, inet_diag_req_v2 up to the ports, the ports, and the rest of it after the addresses.
_HEADER, _REQUEST, _PORTS, _REST = struct.Struct("=IHHII"), struct.Struct("=BBBxI"), struct.Struct(">HH"), struct.Struct("=III")
#: inet_diag_msg: family, state, timer, retransmits, ports, addresses with interface and cookie, expiry, queues, uid, inode.
_ANSWER = struct.Struct("=BBBB 4s 44x III II")


def uid(peer: Address, peer_port: int, server: Address | None, server_port: int) -> int | None:
    """The user of the program at the other end of a connection; None where no program has an established socket there.

    `server` is None or unspecified (0.0.0.0) where the address that was connected to is not known. Raises OSError.
    """
    if server is None or server.is_unspecified:
        return listed_uid(peer, peer_port, None, server_port)
    try:
        found = asked_uid(peer, peer_port, server, server_port)
    except OSError:
        found = None
    return listed_uid(peer, peer_port, server, server_port) if found is None else found


def asked_uid(peer: Address, peer_port: int, server: Address, server_port: int) -> int | None:
    """The same from the kernel's own look-up; None too where this kernel has none. Raises OSError."""
    if peer.version != server.version:
        return None
    family = socket.AF_INET if peer.version == 4 else socket.AF_INET6
    request = (
        _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)  # in any state
        + _PORTS.pack(peer_port, server_port)
        + peer.packed.ljust(16, b"\0")
        + server.packed.ljust(16, b"\0")
        + _REST.pack(0, _NO_COOKIE, _NO_COOKIE)
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + request)
        answer = kernel.recv(8192, socket.MSG_DONTWAIT)  # it is there: the kernel answers while it takes the question
    if len(answer) < _HEADER.size + _ANSWER.size or _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    _, state, _, _, ports, _, _, _, owner, inode = _ANSWER.unpack_from(answer, _HEADER.size)
    return owner if state == ESTABLISHED and inode and ports == _PORTS.pack(peer_port, server_port) else None


def listed_uid(peer: Address, peer_port: int, server: Address | None, server_port: int, proc: Path = PROC) -> int | None:
    """The same from the list of all sockets. Raises OSError.

    proc(5), `/proc/net/tcp`: a row lists the socket's own end first, so the peer's row is (peer, server) and the server's is
    (server, peer). An IPv6 socket that speaks IPv4 is listed in `tcp6`, by its mapped addresses.
    """
    for table in ("tcp", "tcp6") if peer.version == 4 else ("tcp6",):
        as_ipv6 = table == "tcp6"
        other = b"[0-9A-F]+" if server is None else _hex(server, as_ipv6)
        row = re.compile(
            rb": %s:%04X %s:%04X %02X \S+ \S+ \S+ +(\d+) +\d+ (\d+) " % (_hex(peer, as_ipv6), peer_port, other, server_port, ESTABLISHED)
        )
        try:
            rows = (proc / table).read_bytes()
        except FileNotFoundError:
            if as_ipv6 and peer.version == 4:  # a machine without IPv6
                continue
            raise
        for match in row.finditer(rows):
            if int(match[2]):  # the inode; none: no program has it any more
                return int(match[1])
    return None


def _hex(address: Address, as_ipv6: bool) -> bytes:
    """An address as the kernel lists it: 32 bits at a time, each in the machine's own byte order."""
    packed = address.packed
    if as_ipv6 and len(packed) == 4:
        packed = b"\0" * 10 + b"\xff\xff" + packed
    return b"".join(b"%08X" % word for word in struct.unpack(f"={len(packed) // 4}I", packed))
