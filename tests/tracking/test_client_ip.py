from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.hits.client_ip import client_ip, is_trusted

PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "real", "trusted", "client"),
    [
        ("198.51.100.7", "", "", None, "198.51.100.7"),
        ("198.51.100.7", "1.2.3.4", "1.2.3.4", None, "198.51.100.7"),  # nobody's proxy
        ("127.0.0.1", "1.2.3.4", "", None, "1.2.3.4"),
        ("::1", "1.2.3.4", "", None, "1.2.3.4"),
        ("127.0.0.1", "", "1.2.3.4", None, "1.2.3.4"),
        ("127.0.0.1", "1.2.3.4", "5.6.7.8", None, "1.2.3.4"),
        ("127.0.0.1", "spoof, 198.51.100.7", "", None, "198.51.100.7"),
        ("127.0.0.1", "6.6.6.6, 198.51.100.7", "", None, "198.51.100.7"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.7, 10.0.0.2", "", PROXIES, "198.51.100.7"),
        ("127.0.0.1", "1.2.3.4", "", PROXIES, "127.0.0.1"),  # loopback is not in the list
        ("10.0.0.1", "garbage", "", PROXIES, "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, garbage, 10.0.0.3", "", PROXIES, "10.0.0.3"),
        ("10.0.0.1", "::ffff:1.1.1.1", "", PROXIES, "1.1.1.1"),
        ("10.0.0.1", "1.1.1.1:80", "", PROXIES, "1.1.1.1"),
        ("10.0.0.1", "[2a00::1]:443", "", PROXIES, "2a00::1"),
        ("::ffff:10.0.0.1", "1.1.1.1", "", PROXIES, "1.1.1.1"),
        ("::ffff:203.0.113.9", "", "", None, "203.0.113.9"),
        ("", "1.1.1.1", "", None, "1.1.1.1"),  # a Unix socket
        ("fe80::1%eth0", "", "", None, "fe80::1"),
        ("10.0.0.1", "10.0.0.9, 10.0.0.8", "", PROXIES, "10.0.0.9"),
    ],
)
def test_the_client_is_the_first_from_the_right_that_no_trusted_proxy_is(peer, forwarded, real, trusted, client) -> None:
    assert client_ip(peer, forwarded, real, trusted) == client


@given(st.text(max_size=40), st.text(max_size=80), st.text(max_size=40))
def test_any_headers_give_an_address_or_none(peer: str, forwarded: str, real: str) -> None:
    found = client_ip(peer, forwarded, real, PROXIES)
    if found:
        ipaddress.ip_address(found)


def test_a_long_chain_is_cut() -> None:
    assert client_ip("10.0.0.1", ", ".join(["6.6.6.6"] + ["10.0.0.2"] * 5000), "", PROXIES) == "10.0.0.2"


def test_a_peer_that_is_no_address_is_not_trusted() -> None:
    assert not is_trusted("somewhere", None)
