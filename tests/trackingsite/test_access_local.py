"""The local rule: each condition of it alone decides."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackingsite.access.local import is_local_host, why_closed, why_not_local

#: What a server gives for `curl http://localhost:5000/…` where it does not tell the peer's port.
CURL = {
    "REQUEST_METHOD": "GET",
    "REMOTE_ADDR": "127.0.0.1",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "5000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_HOST": "localhost:5000",
    "wsgi.url_scheme": "http",
}


def reason(**changes: str) -> str | None:
    return why_not_local({**CURL, **changes})


@pytest.mark.parametrize(
    "settings", [{}, {"base_url": "http://localhost:5000"}, {"base_url": "http://127.0.0.1"}, {"base_url": "http://[::1]:80"}]
)
def test_settings_leave_the_rule_open(settings: dict[str, Any]) -> None:
    assert why_closed(**{"local_access": True, "base_url": "", "trusted_proxies": None, **settings}) is None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"local_access": False}, "TRACKING_LOCAL_ACCESS"),
        ({"base_url": "https://tracking.example.com"}, "TRACKING_BASE_URL"),
        ({"base_url": "http://localhost.example.com"}, "TRACKING_BASE_URL"),
        ({"base_url": "http://10.0.0.1"}, "TRACKING_BASE_URL"),
        ({"trusted_proxies": (ipaddress.ip_network("127.0.0.1"),)}, "TRACKING_TRUSTED_PROXIES"),
    ],
)
def test_a_setting_closes_the_rule_and_is_named(settings: dict[str, Any], named: str) -> None:
    closed = why_closed(**{"local_access": True, "base_url": "", "trusted_proxies": None, **settings})
    assert closed is not None
    assert named in closed


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"REMOTE_ADDR": "127.8.9.10"},
        {"REMOTE_ADDR": "::1"},
        {"REMOTE_ADDR": "::ffff:127.0.0.1"},
        {"HTTP_HOST": "localhost"},
        {"HTTP_HOST": "LocalHost:5000"},
        {"HTTP_HOST": "127.0.0.1:5000"},
        {"HTTP_HOST": "127.1.2.3"},
        {"HTTP_HOST": "[::1]:5000"},
        {"HTTP_HOST": "[::1]"},
        {"HTTP_HOST": "0.0.0.0:5000"},
        {"REQUEST_METHOD": "HEAD"},
        {"REQUEST_METHOD": "POST"},
        {"REQUEST_METHOD": "POST", "HTTP_ORIGIN": "http://localhost:5000"},
        {"REQUEST_METHOD": "DELETE", "HTTP_SEC_FETCH_SITE": "same-origin"},
        {"REQUEST_METHOD": "POST", "HTTP_ORIGIN": "http://LOCALHOST:5000", "HTTP_SEC_FETCH_SITE": "same-origin"},
        {"HTTP_ORIGIN": "https://evil.example", "HTTP_SEC_FETCH_SITE": "cross-site"},  # a GET changes nothing, and cannot be read
    ],
)
def test_a_request_of_this_machine_is_let_in(changes: dict[str, str]) -> None:
    assert reason(**changes) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"REMOTE_ADDR": "203.0.113.5"}, "another machine (203.0.113.5)"),
        ({"REMOTE_ADDR": "10.0.0.2"}, "another machine"),
        ({"REMOTE_ADDR": "::ffff:203.0.113.5"}, "another machine"),
        ({"REMOTE_ADDR": "fe80::1"}, "another machine"),
        ({"REMOTE_ADDR": ""}, "address is not known"),
        ({"REMOTE_ADDR": "0.0.0.0"}, "another machine"),
        ({"HTTP_FORWARDED": "for=203.0.113.5"}, "Forwarded"),
        ({"HTTP_X_FORWARDED_FOR": "203.0.113.5"}, "X-Forwarded-For"),
        ({"HTTP_X_FORWARDED_FOR": ""}, "X-Forwarded-For"),
        ({"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, "X-Forwarded-For"),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, "X-Forwarded-Proto"),
        ({"HTTP_X_FORWARDED_HOST": "localhost"}, "X-Forwarded-Host"),
        ({"HTTP_X_FORWARDED_ANYTHING": "1"}, "X-Forwarded-Anything"),
        ({"HTTP_X_REAL_IP": "203.0.113.5"}, "X-Real-Ip"),
        ({"HTTP_VIA": "1.1 proxy"}, "Via"),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, "HTTP/1.1"),
        ({"SERVER_PROTOCOL": "HTTP/2"}, "HTTP/1.1"),
        ({"SERVER_PROTOCOL": ""}, "HTTP/1.1"),
        ({"HTTP_HOST": "tracking.example.com"}, "'tracking.example.com'"),
        ({"HTTP_HOST": "localhost.evil.example"}, "localhost.evil.example"),
        ({"HTTP_HOST": "127.0.0.1.evil.example"}, "evil.example"),
        ({"HTTP_HOST": "localhost,evil.example"}, "localhost,evil.example"),
        ({"HTTP_HOST": "localhost@evil.example"}, "localhost@evil.example"),
        ({"HTTP_HOST": "localhost:5000:1"}, "localhost:5000:1"),
        ({"HTTP_HOST": "[::1"}, "[::1"),
        ({"HTTP_HOST": "::1"}, "::1"),
        ({"HTTP_HOST": "127.1"}, "127.1"),
        ({"HTTP_HOST": "2130706433"}, "2130706433"),
        ({"HTTP_HOST": ""}, "''"),
        ({"HTTP_HOST": "testserver"}, "testserver"),
        ({"REQUEST_METHOD": "POST", "HTTP_ORIGIN": "https://evil.example"}, "https://evil.example"),
        ({"REQUEST_METHOD": "POST", "HTTP_ORIGIN": "null"}, "another site (null)"),
        ({"REQUEST_METHOD": "POST", "HTTP_ORIGIN": ""}, "another site"),
        ({"REQUEST_METHOD": "POST", "HTTP_ORIGIN": "http://localhost:8000"}, "http://localhost:8000"),
        ({"REQUEST_METHOD": "POST", "HTTP_ORIGIN": "https://localhost:5000"}, "https://localhost:5000"),
        ({"REQUEST_METHOD": "POST", "HTTP_ORIGIN": "http://127.0.0.1:5000"}, "http://127.0.0.1:5000"),
        ({"REQUEST_METHOD": "POST", "HTTP_SEC_FETCH_SITE": "cross-site"}, "cross-site"),
        ({"REQUEST_METHOD": "PATCH", "HTTP_SEC_FETCH_SITE": "same-site"}, "same-site"),
        ({"REQUEST_METHOD": "DELETE", "HTTP_SEC_FETCH_SITE": "none"}, "none"),
        ({"REQUEST_METHOD": "POST", "HTTP_ORIGIN": "http://localhost:5000", "HTTP_SEC_FETCH_SITE": "cross-site"}, "cross-site"),
    ],
)
def test_one_thing_that_is_not_local_refuses_and_is_told(changes: dict[str, str], why: str) -> None:
    told = reason(**changes)
    assert told is not None
    assert why in told
    assert told.endswith(".")


def test_a_request_without_host_is_refused() -> None:
    meta = {name: value for name, value in CURL.items() if name != "HTTP_HOST"}
    assert why_not_local(meta) is not None


def test_the_name_of_a_test_environment_counts_where_it_was_added() -> None:
    client = {**CURL, "SERVER_NAME": "testserver"}
    del client["HTTP_HOST"]
    assert why_not_local(client, more_hosts=["testserver"]) is None
    assert why_not_local({**CURL, "HTTP_HOST": "testserver"}, more_hosts=["testserver"]) is None
    assert why_not_local(client) is not None


@given(st.text(max_size=60))
def test_any_host_is_judged_without_an_error(text: str) -> None:
    assert (reason(HTTP_HOST=text) is None) in (True, False)
    assert is_local_host(text) in (True, False)


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_only_loopback_addresses_are_local_hosts(address: ipaddress.IPv4Address, port: int) -> None:
    local = address.is_loopback or int(address) == 0
    assert (reason(HTTP_HOST=f"{address}:{port}") is None) is local


@given(st.ip_addresses())
def test_only_loopback_peers_are_local(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert (reason(REMOTE_ADDR=str(address)) is None) is (getattr(address, "ipv4_mapped", None) or address).is_loopback
