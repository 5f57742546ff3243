"""Whose program holds the other end of a connection."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trackingsite.test_access_local import CURL
from trackingsite.access.local import why_not_local
from trackingsite.access.peer import asked_uid, listed_uid, uid

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LO4, LO6, MAPPED = "0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or sys.byteorder != "little", reason="the rows are those of Linux on little-endian machines"
)


def row(local: str, remote: str, *, state: str = "01", uid: int = 1000, inode: int = 4711) -> str:
    waiting = "00000000:00000000 00:00000000 00000000"
    return f"   0: {local} {remote} {state} {waiting} {uid:5d}        0 {inode} 1 0000000000000000 20 4 30 10 -1\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "tcp").write_text(HEAD)
    (tmp_path / "tcp6").write_text(HEAD)
    return tmp_path


def uid_of(proc: Path, peer: str = "127.0.0.1", server: str = "127.0.0.1") -> int | None:
    return listed_uid(ip_address(peer), 40000, ip_address(server) if server else None, 5000, proc)


def test_the_peer_is_the_row_whose_local_end_it_is(proc: Path) -> None:
    rows = [row(f"{LO4}:1388", f"{LO4}:9C40", uid=33), row(f"{LO4}:9C40", f"{LO4}:1388", uid=1000)]  # the server's own end first
    (proc / "tcp").write_text(HEAD + "".join(rows))
    assert uid_of(proc) == 1000


def test_ipv6_peer(proc: Path) -> None:
    (proc / "tcp6").write_text(HEAD + row(f"{LO6}:9C40", f"{LO6}:1388", uid=1001))
    assert uid_of(proc, "::1", "::1") == 1001


def test_ipv4_spoken_by_an_ipv6_socket(proc: Path) -> None:
    (proc / "tcp6").write_text(HEAD + row(f"{MAPPED}:9C40", f"{MAPPED}:1388", uid=1002))
    assert uid_of(proc) == 1002


def test_a_server_that_does_not_know_its_address_goes_by_the_port(proc: Path) -> None:
    rows = [row(f"{LO4}:9C40", f"{LO4}:1389", uid=33), row(f"{LO4}:9C40", f"{LO4}:1388", uid=1000)]
    (proc / "tcp").write_text(HEAD + "".join(rows))
    assert uid_of(proc, server="") == 1000


@pytest.mark.parametrize("state", ["02", "03", "04", "05", "06", "07", "08", "09", "0A", "0B"])
def test_a_socket_that_is_not_established_is_no_peer(proc: Path, state: str) -> None:
    (proc / "tcp").write_text(HEAD + row(f"{LO4}:9C40", f"{LO4}:1388", state=state))
    assert uid_of(proc) is None


def test_a_socket_that_no_program_has_is_no_peer(proc: Path) -> None:
    (proc / "tcp").write_text(HEAD + row(f"{LO4}:9C40", f"{LO4}:1388", uid=0, inode=0))
    assert uid_of(proc) is None


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        (f"{LO4}:9C41", f"{LO4}:1388"),
        (f"{LO4}:9C40", f"{LO4}:1389"),
        ("0200007F:9C40", f"{LO4}:1388"),
        (f"{LO4}:9C40", "0200007F:1388"),
    ],
)
def test_another_connection_is_not_the_peer(proc: Path, local: str, remote: str) -> None:
    (proc / "tcp").write_text(HEAD + row(local, remote))
    assert uid_of(proc) is None


def test_a_machine_without_ipv6(proc: Path) -> None:
    (proc / "tcp6").unlink()
    assert uid_of(proc) is None
    (proc / "tcp").write_text(HEAD + row(f"{LO4}:9C40", f"{LO4}:1388"))
    assert uid_of(proc) == 1000


def judged(monkeypatch: pytest.MonkeyPatch, found: int | OSError | None, **changes: str) -> str | None:
    def answer(*_: object) -> int | None:
        if isinstance(found, OSError):
            raise found
        return found

    monkeypatch.setattr("trackingsite.access.peer.uid", answer)
    return why_not_local({**CURL, "REMOTE_PORT": "40000", **changes}, uids={0, 1000})


@pytest.mark.parametrize("uid", [0, 1000])
def test_the_server_s_own_user_and_root_are_let_in(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    assert judged(monkeypatch, uid) is None


def test_another_user_is_refused_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "uid 33" in (judged(monkeypatch, 33) or "")


def test_a_peer_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No program" in (judged(monkeypatch, None) or "")


def test_a_machine_that_does_not_tell_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "could not be found out" in (judged(monkeypatch, OSError()) or "")


@pytest.mark.parametrize("changes", [{"REMOTE_PORT": "x"}, {"REMOTE_PORT": "99999"}, {"SERVER_PORT": ""}, {"SERVER_PORT": "-1"}])
def test_ports_that_are_none_are_refused(changes: dict[str, str]) -> None:
    assert why_not_local({**CURL, "REMOTE_PORT": "40000", **changes}) is not None


@given(
    st.lists(
        st.tuples(st.integers(1, 65535), st.integers(1, 65535), st.integers(0, 2**32 - 2), st.integers(0, 12), st.integers(0, 2**32)),
        max_size=20,
    )
)
def test_only_an_established_row_with_both_ends_right_names_a_user(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("proc")
    lines = [row(f"{LO4}:{a:04X}", f"{LO4}:{b:04X}", uid=uid, state=f"{state:02X}", inode=inode) for a, b, uid, state, inode in rows]
    (folder / "tcp").write_text(HEAD + "".join(lines))
    for a, b, *_ in rows:
        right = [uid for a2, b2, uid, state, inode in rows if (a2, b2, state) == (a, b, 1) and inode]
        assert listed_uid(ip_address("127.0.0.1"), a, ip_address("127.0.0.1"), b, folder) == (right[0] if right else None)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("proc")
    (folder / "tcp").write_bytes(data)
    assert uid_of(folder) is None


# -- real sockets


@contextmanager
def connection(server: int, listen: str, client: int, connect: str) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """The peer's and the server's own address, as the server sees them."""
    try:
        listener = socket.create_server((listen, 0), family=server, dualstack_ipv6=server == socket.AF_INET6 and listen == "::")
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with closing(listener), socket.socket(client, socket.SOCK_STREAM) as caller:
        caller.connect((connect, listener.getsockname()[1]))
        accepted, peer = listener.accept()
        with closing(accepted):
            yield peer[:2], accepted.getsockname()[:2]


@pytest.mark.parametrize(
    ("server", "listen", "client", "connect"),
    [
        pytest.param(socket.AF_INET, "127.0.0.1", socket.AF_INET, "127.0.0.1", id="IPv4"),
        pytest.param(socket.AF_INET, "0.0.0.0", socket.AF_INET, "127.0.0.7", id="IPv4, another loopback address"),
        pytest.param(socket.AF_INET6, "::1", socket.AF_INET6, "::1", id="IPv6"),
        pytest.param(socket.AF_INET6, "::", socket.AF_INET, "127.0.0.1", id="IPv4 to a server of both"),
        pytest.param(socket.AF_INET, "127.0.0.1", socket.AF_INET6, "::ffff:127.0.0.1", id="IPv4 spoken by an IPv6 socket"),
    ],
)
def test_a_real_connection_is_found_with_its_user(server: int, listen: str, client: int, connect: str) -> None:
    with connection(server, listen, client, connect) as (peer, own):
        meta = {**CURL, "REMOTE_ADDR": peer[0], "REMOTE_PORT": str(peer[1]), "SERVER_NAME": own[0], "SERVER_PORT": str(own[1])}
        assert why_not_local(meta) is None
        assert why_not_local({**meta, "SERVER_NAME": "0.0.0.0"}) is None
        assert why_not_local({**meta, "SERVER_NAME": "tracking.example.com"}) is None
        assert why_not_local({**meta, "REMOTE_PORT": str(own[1])}) is not None
        assert why_not_local(meta, uids={os.geteuid() + 1}) is not None


Ends = tuple[IPv4Address | IPv6Address, int, IPv4Address | IPv6Address, int]


def ends(peer: tuple[str, int], own: tuple[str, int]) -> Ends:
    return ip_address(peer[0]), peer[1], ip_address(own[0]), own[1]


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_kernel_and_its_list_say_the_same(family: int, address: str) -> None:
    with connection(family, address, family, address) as (peer, own):
        at = ends(peer, own)
        assert listed_uid(*at) == os.geteuid()
        assert asked_uid(*at) in (os.geteuid(), None)  # None: a kernel without tcp_diag
        for wrong in ((at[0], at[1] ^ 1, *at[2:]), (*at[:3], at[3] ^ 1), (at[0], at[3], at[2], at[3])):
            assert asked_uid(*wrong) is None
            assert listed_uid(*wrong) is None


def test_a_kernel_that_does_not_answer_is_asked_for_its_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    with connection(socket.AF_INET, "127.0.0.1", socket.AF_INET, "127.0.0.1") as (peer, own):
        monkeypatch.setattr("trackingsite.access.peer.asked_uid", refuse)
        assert uid(*ends(peer, own)) == os.geteuid()


def test_a_peer_that_has_closed_is_none() -> None:
    with connection(socket.AF_INET, "127.0.0.1", socket.AF_INET, "127.0.0.1") as (peer, own):
        pass
    assert asked_uid(*ends(peer, own)) is None
    assert uid(*ends(peer, own)) is None


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/usr/bin/python3").exists(), reason="only root can start a program as another user")
def test_a_program_of_another_user_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code = f"import socket, sys; s = socket.create_connection(('127.0.0.1', {port})); sys.stdin.read()"
        with subprocess.Popen(["/usr/bin/python3", "-c", code], stdin=subprocess.PIPE, user=65534, env={}) as caller:
            listener.settimeout(20)
            accepted, peer = listener.accept()
            with closing(accepted):
                refused = why_not_local({**CURL, "REMOTE_PORT": str(peer[1]), "SERVER_PORT": str(port)})
            caller.communicate(timeout=20)
    assert refused is not None
    assert "uid 65534" in refused
