"""Who is let in, and what those who are not are told."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from campaigns.times import utc_now
from tracking.conf import Conf
from trackingsite.access import keys, local
from trackingsite.access.decision import Access

pytestmark = [pytest.mark.urls("tests.trackingsite.access_urls"), pytest.mark.django_db]

FAR = {"REMOTE_ADDR": "203.0.113.5"}
HTML = {"HTTP_ACCEPT": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def far() -> Client:
    return Client(**FAR)


@pytest.fixture
def staff() -> User:
    return User.objects.create_superuser("ada", password="correct horse")


def bearer(text: str) -> dict[str, Any]:
    return {"HTTP_AUTHORIZATION": f"Bearer {text}"}


# -- the local rule


def test_local_requests_need_nothing_until_the_first_key(client: Client) -> None:
    assert client.get("/api/things").json()["kind"] == "local"
    assert client.post("/api/things", {"name": "a"}, content_type="application/json").status_code == 201
    assert client.get("/dashboard").status_code == 200
    key, _ = keys.create("first")
    assert client.get("/api/things").status_code == 401
    assert "An API key was made" in client.get("/api/things").json()["detail"]
    keys.revoke(key)
    assert client.get("/api/things").status_code == 401


@pytest.mark.parametrize(
    ("name", "value"),
    [("TRACKING_LOCAL_ACCESS", "False"), ("TRACKING_BASE_URL", "https://t.example.com"), ("TRACKING_TRUSTED_PROXIES", "127.0.0.1")],
)
def test_a_setting_that_ends_the_local_rule_is_named(client: Client, settings: Any, name: str, value: str) -> None:
    settings.CONF = Conf({name: value})
    response = client.get("/api/things")
    assert response.status_code == 401
    assert name in response.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_X_REAL_IP": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
        {"HTTP_VIA": "1.1 nginx"},
        {"HTTP_HOST": "rebound.example"},
        {"SERVER_PROTOCOL": "HTTP/1.0"},
        {"REMOTE_ADDR": "203.0.113.5", "HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"REMOTE_ADDR": "203.0.113.5", "HTTP_HOST": "localhost", "HTTP_X_REAL_IP": "127.0.0.1"},
    ],
)
def test_what_came_through_a_proxy_or_from_elsewhere_is_refused(client: Client, headers: dict[str, Any]) -> None:
    assert client.get("/api/things", **headers).status_code == 401


@pytest.mark.parametrize("headers", [{"HTTP_ORIGIN": "https://evil.example"}, {"HTTP_SEC_FETCH_SITE": "cross-site"}])
def test_a_page_of_another_site_changes_nothing(client: Client, headers: dict[str, Any]) -> None:
    response = client.post("/api/things", {"name": "a"}, content_type="application/json", **headers)
    assert response.status_code == 401
    assert "page of another site" in response.json()["detail"]


def test_the_peer_s_user_is_looked_up_where_the_server_tells_its_port(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.peer, "uid", lambda *_: 33)
    monkeypatch.setattr(local.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(local.sys, "platform", "linux")
    server = {"SERVER_NAME": "127.0.0.1", "HTTP_HOST": "127.0.0.1", "REMOTE_PORT": "40000"}
    assert "uid 33" in client.get("/api/things", **server).json()["detail"]
    monkeypatch.setattr(local.os, "geteuid", lambda: 33)
    assert client.get("/api/things", **server).status_code == 200


def test_a_view_can_ask_for_the_local_rule_itself(client: Client, far: Client) -> None:
    assert client.post("/webhooks/any").json() == {"local": True}
    assert far.post("/webhooks/any").json() == {"local": False}
    assert client.post("/webhooks/any", HTTP_X_FORWARDED_FOR="1.2.3.4").json() == {"local": False}


# -- what is public


@pytest.mark.parametrize("path", ["/track/pixel", "/health", "/webhooks/any", "/admin/login/"])
def test_public_addresses_are_open_to_all(far: Client, path: str) -> None:
    assert far.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/tracking", "/healthy", "/adminx", "//track/pixel", "/api/things", "/dashboard", "/nothing", "/api/../track"]
)
def test_all_else_is_closed_even_what_does_not_exist(far: Client, path: str) -> None:
    assert far.get(path).status_code == 401


def test_a_hit_on_a_link_asks_for_nothing(far: Client, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any) -> None:
    monkeypatch.setattr(Access, "_grant", property(lambda self: pytest.fail("it was asked")))
    with django_assert_num_queries(0):
        assert far.get("/track/pixel", HTTP_AUTHORIZATION="Bearer wrong").status_code == 200


# -- keys


@pytest.mark.parametrize("header", ["HTTP_AUTHORIZATION", "HTTP_X_API_KEY"])
def test_a_key_lets_in_from_anywhere(far: Client, header: str) -> None:
    _, text = keys.create("ci")
    value = f"bearer  {text}" if header == "HTTP_AUTHORIZATION" else text
    assert far.get("/api/things", **{header: value}).json() == {"user": "None", "kind": "key"}
    assert far.post("/api/things", {"name": "a"}, content_type="application/json", **{header: value}).status_code == 201
    assert far.get("/dashboard", **{header: value}).status_code == 200


def test_a_key_costs_one_query(far: Client, django_assert_num_queries: Any) -> None:
    _, text = keys.create("ci")
    with django_assert_num_queries(1):
        far.get("/api/things", **bearer(text))


@pytest.mark.parametrize(
    ("scopes", "get", "post"), [(["read"], 200, 403), (["write"], 403, 201), (["send"], 403, 403), (["read", "write"], 200, 201)]
)
def test_a_key_may_do_what_its_scopes_say(far: Client, scopes: list[str], get: int, post: int) -> None:
    _, text = keys.create("ci", scopes)
    assert far.get("/api/things", **bearer(text)).status_code == get
    assert far.post("/api/things", {"name": "a"}, content_type="application/json", **bearer(text)).status_code == post


def test_a_missing_scope_is_named(far: Client) -> None:
    _, text = keys.create("ci", ["read"])
    response = far.delete("/api/things", **bearer(text))
    assert "write" in response.json()["detail"]
    assert response["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="write"'
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "etk_",
        "etk_12345678_" + "0" * 40,
        "\x00",
        "etk_1234567\u0660_" + "0" * 40,
        "Ä" * 20,
        "a" * 5000,
        "etk_12345678_" + "0" * 39,
    ],
)
def test_a_wrong_key_is_never_made_good_by_where_it_comes_from(client: Client, staff: User, text: str) -> None:
    client.force_login(staff)
    for headers in ({"HTTP_AUTHORIZATION": f"Bearer {text}"}, {"HTTP_X_API_KEY": text}):
        response = client.get("/api/things", **headers)
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        assert "not known" in response.json()["detail"]


def test_each_part_of_a_key_must_be_right(far: Client) -> None:
    _, text = keys.create("one")
    _, other = keys.create("other")
    mixed = text[:13] + other[13:]
    flipped = text[:-1] + ("0" if text[-1] != "0" else "1")
    for wrong in (mixed, flipped, text[:-1], text + "0", text.upper(), text.replace("etk_", "etl_")):
        assert far.get("/api/things", **bearer(wrong)).status_code == 401
    assert far.get("/api/things", **bearer(text)).status_code == 200


def test_a_revoked_key_is_refused_at_the_next_request(far: Client) -> None:
    key, text = keys.create("ci")
    assert far.get("/api/things", **bearer(text)).status_code == 200
    keys.revoke(key)
    response = far.get("/api/things", **bearer(text))
    assert response.status_code == 401
    assert "revoked" in response.json()["detail"]


def test_an_expired_key_is_refused(far: Client) -> None:
    _, text = keys.create("ci", expires_at=utc_now() - dt.timedelta(milliseconds=1))
    assert "expired" in far.get("/api/things", **bearer(text)).json()["detail"]
    _, text = keys.create("ci", expires_at=utc_now() + dt.timedelta(hours=1))
    assert far.get("/api/things", **bearer(text)).status_code == 200


def test_another_scheme_is_no_key(client: Client, far: Client) -> None:
    assert client.get("/api/things", HTTP_AUTHORIZATION="Basic dTpw").status_code == 200
    assert far.get("/api/things", HTTP_AUTHORIZATION="Basic dTpw").status_code == 401


# -- staff


def test_a_signed_in_staff_user_is_let_in_from_anywhere(far: Client, staff: User) -> None:
    far.force_login(staff)
    assert far.get("/dashboard").status_code == 200
    assert far.get("/api/things").json() == {"user": "ada", "kind": "staff"}


@pytest.mark.parametrize("change", [{"is_staff": False}, {"is_active": False}])
def test_another_user_is_not(far: Client, staff: User, change: dict[str, bool]) -> None:
    far.force_login(staff)
    User.objects.update(**change)
    assert far.get("/dashboard", **HTML).status_code == 403
    assert far.get("/api/things").status_code == 401


def test_a_session_needs_the_csrf_token_to_change_anything(staff: User) -> None:
    client = Client(enforce_csrf_checks=True, **FAR)
    client.force_login(staff)
    send: dict[str, Any] = {"data": {"name": "a"}, "content_type": "application/json"}
    refused = client.post("/api/things", **send)
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["detail"]
    client.cookies["csrftoken"] = token = "a" * 32
    assert client.post("/api/things", **send, HTTP_X_CSRFTOKEN="b" * 32).status_code == 403
    assert client.post("/api/things", **send, HTTP_X_CSRFTOKEN=token).status_code == 201


def test_a_key_or_the_local_rule_needs_no_csrf_token(staff: User) -> None:
    client = Client(enforce_csrf_checks=True)
    send: dict[str, Any] = {"data": {"name": "a"}, "content_type": "application/json"}
    client.force_login(staff)
    assert client.post("/api/things", **send).status_code == 201  # from this very machine, and from no other site
    _, text = keys.create("ci")
    assert client.post("/api/things", **send, **bearer(text), **FAR).status_code == 201


# -- refusals


def test_a_program_is_told_how_to_get_in(far: Client) -> None:
    response = far.get("/api/things")
    assert response.status_code == 401
    assert response["Content-Type"] == "application/problem+json"
    assert response["WWW-Authenticate"] == "Bearer"
    assert response["Cache-Control"] == "no-store"
    detail = response.json()["detail"]
    for way in ("Authorization: Bearer", "X-API-Key", "key create", "/admin/login/", "createsuperuser", "another machine (203.0.113.5)"):
        assert way in detail


def test_a_browser_gets_a_page_that_says_how_to_get_in(far: Client) -> None:
    response = far.get("/dashboard?sort=-name&q=a%26b", **HTML)
    assert response.status_code == 403
    assert response["Content-Type"].startswith("text/html")
    page = response.content.decode()
    for way in ("Authorization: Bearer", "X-API-Key", "key create", "createsuperuser", "another machine (203.0.113.5)"):
        assert way in page
    assert 'href="/admin/login/?next=%2Fdashboard%3Fsort%3D-name%26q%3Da%2526b"' in page


def test_a_browser_at_the_api_gets_a_problem(far: Client) -> None:
    assert far.get("/api/things", **HTML)["Content-Type"] == "application/problem+json"


def test_what_a_request_says_is_shown_as_text(client: Client) -> None:
    response = client.get("/dashboard", HTTP_HOST="localhost", HTTP_X_REAL_IP="1", **HTML)
    assert response.status_code == 403
    page = client.get("/dashboard/%22%3E%3Csvg%20onload=alert(1)%3E?next=</a><svg>", HTTP_X_REAL_IP="1", **HTML).content.decode()
    assert "<svg" not in page


def test_pages_that_refuse_run_nothing_inline(far: Client) -> None:
    page = far.get("/dashboard", **HTML).content.decode()
    assert "<style" not in page
    assert " style=" not in page
    assert "onclick" not in page


@pytest.mark.parametrize("path", ["/api/things", "/dashboard", "/admin/login/", "/webhooks/any"])
def test_allowed_hosts_hold_for_all_but_links(client: Client, settings: Any, path: str, caplog: pytest.LogCaptureFixture) -> None:
    settings.ALLOWED_HOSTS = ["tracking.example.com", "testserver"]
    assert client.get(path).status_code == 200
    refused = client.get(path, HTTP_HOST="evil.example")
    assert refused.status_code == 400
    assert "TRACKING_ALLOWED_HOSTS" in refused.json()["detail"]
    assert not caplog.records


@pytest.mark.parametrize("host", ["old.example.com", "no host", "", "a" * 300, "[::1", "x:y:z"])
def test_a_link_works_under_any_host(far: Client, settings: Any, host: str) -> None:
    settings.ALLOWED_HOSTS = ["tracking.example.com"]
    assert far.get("/track/pixel", HTTP_HOST=host).status_code == 200
    assert far.get("/health", HTTP_HOST=host).status_code == 200


def test_the_permission_holds_without_the_middleware(settings: Any) -> None:
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "access" not in name]
    assert APIClient(**FAR).get("/api/things").status_code == 401
    _, text = keys.create("ci", ["read"])
    assert APIClient(**FAR).get("/api/things", **bearer(text)).status_code == 200
    assert APIClient(**FAR).post("/api/things", {"name": "a"}, **bearer(text)).status_code == 403


def test_without_the_database_the_answer_is_503_in_one_sentence(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    def away(*_: Any) -> None:
        raise OperationalError("unable to open database file")

    monkeypatch.setattr(keys, "ever_made", away)
    client.raise_request_exception = False
    response = client.get("/api/things")
    assert response.status_code == 503
    assert response["Retry-After"] == "1"
