"""Errors: problem details for programs, pages for browsers."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from django.test import Client

from trackingsite import problems

pytestmark = [pytest.mark.urls("tests.trackingsite.access_urls"), pytest.mark.django_db]

HTML = {"HTTP_ACCEPT": "text/html,*/*;q=0.8"}


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


def told(response: Any) -> dict[str, Any]:
    assert response["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(response.content)
    assert body["type"] == "about:blank"
    assert body["status"] == response.status_code
    assert body["title"]
    assert body["detail"]
    return body


def test_a_problem_has_the_members_of_rfc_9457() -> None:
    body = told(problems.problem(409, "The token \ud800 is taken", errors=[]))
    assert body == {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "The token \ud800 is taken", "errors": []}


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("refused", 409),
        ("refused-whole", 400),
        ("missing", 404),
        ("denied", 403),
        ("not-found", 404),
        ("throttled", 429),
        ("operational", 503),
        ("interface", 503),
        ("data", 400),
        ("overflow", 400),
        ("too-big", 413),
        ("bug", 500),
    ],
)
def test_what_the_api_raises_becomes_a_problem(client: Client, what: str, status: int) -> None:
    response = client.get(f"/api/raises/{what}")
    assert response.status_code == status
    assert "secret" not in told(response)["detail"]


def test_a_refused_field_is_named(client: Client) -> None:
    assert told(client.get("/api/raises/refused"))["errors"] == [{"field": "tracking_token", "detail": "the token is taken"}]
    assert "errors" not in told(client.get("/api/raises/refused-whole"))


@pytest.mark.parametrize("path", ["/api/raises/operational", "/dashboard/raises/operational", "/dashboard/raises/interface"])
def test_a_database_that_is_away_is_503_with_one_line_in_the_log(client: Client, caplog: pytest.LogCaptureFixture, path: str) -> None:
    with caplog.at_level(logging.INFO, "tracking"):
        response = client.get(path)
    assert response.status_code == 503
    assert response["Retry-After"] == "1"
    assert "healthy" not in response.content.decode()
    lines = [record for record in caplog.records if record.name.startswith("tracking")]
    assert len(lines) == 1
    assert lines[0].exc_info is None


def test_a_throttled_caller_is_told_when_to_come_back(client: Client) -> None:
    assert client.get("/api/raises/throttled")["Retry-After"] == "3"


def post(client: Client, body: str, content_type: str = "application/json") -> Any:
    return client.post("/api/things", body, content_type=content_type)


def test_wrong_input_names_each_field(client: Client) -> None:
    body = told(post(client, '{"name": "too long", "tags": ["ok", "not ok"]}'))
    assert body["status"] == 400
    assert [error["field"] for error in body["errors"]] == ["name", "tags.1"]
    assert "name: " in body["detail"]


def test_wrong_items_of_a_list_are_named_by_their_index(client: Client) -> None:
    body = told(post(client, '[{"name": "a"}, {"name": ""}, 5]'))
    assert [error["field"] for error in body["errors"]] == ["1.name", "2"]


def test_input_that_is_wrong_as_a_whole_names_no_field(client: Client) -> None:
    assert [error["field"] for error in told(post(client, '"text"'))["errors"]] == [None]


def test_many_errors_are_told_shortly_and_listed_wholly(client: Client) -> None:
    body = told(post(client, json.dumps([{}] * 10)))
    assert len(body["errors"]) == 10
    assert body["detail"].endswith("and 7 more")


def test_broken_json_is_400(client: Client) -> None:
    assert told(post(client, "{"))["status"] == 400


def test_another_media_type_is_415(client: Client) -> None:
    assert told(post(client, "a=1", "application/x-www-form-urlencoded"))["status"] == 415


def test_another_method_is_405_and_says_which_are_right(client: Client) -> None:
    response = client.put("/api/things")
    assert told(response)["status"] == 405
    assert "POST" in response["Allow"]


def test_an_unknown_address_under_api_is_a_problem_even_in_a_browser(client: Client) -> None:
    assert told(client.get("/api/nothing", **HTML))["status"] == 404
    assert told(client.get("/webhooks/nothing", **HTML))["status"] == 404
    assert told(client.get("/nothing"))["status"] == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/dashboard/raises/missing", 404),
        ("/dashboard/raises/denied", 403),
        ("/dashboard/raises/bug", 500),
        ("/dashboard/raises/operational", 503),
        ("/dashboard/raises/too-big", 413),
    ],
)
def test_a_browser_gets_a_page(client: Client, path: str, status: int, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):  # whether a key was made; the page itself asks nothing
        response = client.get(path, **HTML)
    assert response.status_code == status
    page = response.content.decode()
    assert response["Content-Type"].startswith("text/html")
    assert f"<title>{status}" in page
    assert "secret" not in page
    assert "<style" not in page
    assert " style=" not in page


def test_a_host_that_is_none_is_400(client: Client) -> None:
    assert told(client.get("/api/things", HTTP_HOST="no host"))["status"] == 400
    assert client.get("/dashboard", HTTP_HOST="no host", **HTML).status_code == 400


def test_a_form_without_its_token_gets_a_page(client: Client) -> None:
    response = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "a"})
    assert response.status_code == 403
    assert "form has expired" in response.content.decode()
