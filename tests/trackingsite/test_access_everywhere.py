"""Every address of the site is closed to a stranger, but for those that are meant to be public."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, resolve

pytestmark = pytest.mark.django_db

PUBLIC = re.compile(r"/|/health|/health/ready|/track/.+|/favicon.ico|/webhooks/.+|/admin|/admin/.*")
SAMPLES = {"int": "1", "uuid": "6f7cf9a1-9a3e-4a0c-8f56-0c1e1f4a1b2c"}
METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


def addresses(patterns: list[URLPattern | URLResolver], prefix: str = "/") -> Iterator[str]:
    """One address for each pattern that is a path; the admin's last one, a regular expression, takes whatever is left."""
    for pattern in patterns:
        route = prefix + re.sub(
            r"<(?:(\w+):)?\w+>", lambda match: SAMPLES.get(match[1] or "", "x"), getattr(pattern.pattern, "_route", "x")
        )
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, route)
        else:
            yield route


def test_a_stranger_gets_in_nowhere() -> None:
    far = Client(REMOTE_ADDR="203.0.113.5")
    closed = [address for address in addresses(get_resolver().url_patterns) if not PUBLIC.fullmatch(address)]
    assert {"/api/campaigns", "/api/campaigns/1", "/api/messages/bulk", "/api/events", "/api/schema", "/api/docs", "/dashboard"} <= set(
        closed
    )
    for address in closed:
        resolve(address)  # it is an address of the site, not just any
        for method in METHODS:
            response = far.generic(method, address)
            assert response.status_code == 401, f"{method} {address}"
            assert method == "HEAD" or "key create" in response.json()["detail"]
        assert far.get(address, HTTP_ACCEPT="text/html").status_code in (401, 403), address


def test_the_admin_sends_a_stranger_to_its_sign_in_page() -> None:
    far = Client(REMOTE_ADDR="203.0.113.5")
    found = [address for address in addresses(get_resolver().url_patterns) if address.startswith("/admin/")]
    assert "/admin/access/apikey/" in found
    for address in found:
        response = far.get(address)
        public = address in ("/admin/login/", "/admin/jsi18n/", "/admin/logout/")
        assert public or (response.status_code == 302 and "/admin/login/" in response["Location"]) or response.status_code == 404, address


def test_the_local_rule_is_no_way_into_the_admin(client: Client) -> None:
    assert client.get("/api/campaigns").status_code == 200
    assert client.get("/admin/access/apikey/").status_code == 302
