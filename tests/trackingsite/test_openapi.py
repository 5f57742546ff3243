from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import Client
from hypothesis import HealthCheck, given, settings
from rest_framework.permissions import SAFE_METHODS

from trackingsite.access import keys

pytestmark = pytest.mark.django_db

#: What the service promises, address by address.
OPERATIONS = {
    "/api/campaigns": {"get", "post"},
    "/api/campaigns/{id}": {"get", "patch", "delete"},
    "/api/campaigns/{id}/messages": {"get"},
    "/api/campaigns/{id}/export": {"get"},
    "/api/campaigns/{id}/timeline": {"get"},
    "/api/campaigns/{id}/links": {"get"},
    "/api/messages": {"get", "post"},
    "/api/messages/bulk": {"post"},
    "/api/messages/{id}": {"get"},
    "/api/messages/{id}/sent": {"post"},
    "/api/messages/{id}/delivered": {"post"},
    "/api/messages/{id}/opened": {"post"},
    "/api/messages/{id}/clicked": {"post"},
    "/api/messages/{id}/bounce": {"post"},
    "/api/messages/{id}/events": {"get"},
    "/api/events": {"get"},
    "/api/dashboard/summary": {"get"},
}


@pytest.fixture
def schema(client: Client) -> dict[str, Any]:
    response = client.get("/api/schema")
    assert response["Content-Type"] == "application/json"
    return response.json()  # type: ignore[no-any-return]


def operations(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, operation) for path, methods in schema["paths"].items() for method, operation in methods.items()]


def test_the_schema_is_valid_and_made_without_a_warning(tmp_path: Path) -> None:
    call_command("spectacular", "--fail-on-warn", "--validate", "--file", str(tmp_path / "schema.yml"))
    assert (tmp_path / "schema.yml").read_text().startswith("openapi: 3.")


def test_every_promised_operation_is_documented_and_no_other(schema: dict[str, Any]) -> None:
    assert {path: set(methods) for path, methods in schema["paths"].items() if path in OPERATIONS} == OPERATIONS
    assert not [path for path in schema["paths"] if path.endswith("/")]


def test_every_operation_has_a_summary_and_says_how_to_get_in(schema: dict[str, Any]) -> None:
    summaries = [operation.get("summary", "") for _, _, operation in operations(schema)]
    assert all(summaries)
    assert len(set(summaries)) == len(summaries)
    schemes = schema["components"]["securitySchemes"]
    assert {scheme["type"] for scheme in schemes.values()} == {"http", "apiKey"}
    assert all(operation["security"] for _, _, operation in operations(schema))


def test_every_operation_documents_its_errors_as_problems(schema: dict[str, Any]) -> None:
    for path, method, operation in operations(schema):
        errors = {status: body["content"] for status, body in operation["responses"].items() if status >= "400"}
        assert {"400", "401", "403", "503"} <= set(errors), path
        assert ("404" in errors) >= ("{id}" in path), path
        assert method.upper() in SAFE_METHODS or method == "delete" or {"413", "415"} <= set(errors), path
        assert all(
            content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}} for content in errors.values()
        )
    assert schema["components"]["schemas"]["Problem"]["required"] == ["detail", "status", "title", "type"]


def test_answers_have_the_documented_fields_and_no_others(client: Client, schema: dict[str, Any], message: Any) -> None:
    client.post(f"/api/messages/{message.pk}/clicked", {"url": "https://example.com/"}, content_type="application/json")
    base = f"/api/campaigns/{message.campaign_id}"
    answers = {
        "Campaign": client.get(base).json(),
        "Metrics": client.get(base).json()["metrics"],
        "Message": client.get(f"/api/messages/{message.pk}").json(),
        "Event": client.get("/api/events").json()["results"][0],
        "Link": client.get(f"{base}/links").json()["results"][0],
        "Timeline": client.get(f"{base}/timeline").json(),
        "TimelinePoint": client.get(f"{base}/timeline").json()["results"][0],
        "Summary": client.get("/api/dashboard/summary").json(),
        "Problem": {**client.get("/api/campaigns?x=1").json()},
    }
    for name, answer in answers.items():
        assert list(answer) == list(schema["components"]["schemas"][name]["properties"]), name


def test_yaml_is_there_for_who_asks(client: Client) -> None:
    assert client.get("/api/schema", headers={"accept": "application/yaml"}).content.startswith(b"openapi: 3.")
    assert client.get("/api/schema?format=yaml").status_code == 200


def test_the_docs_page_loads_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/api/docs")
    html = page.content.decode()
    loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert len(loaded) >= 4
    assert [address for address in loaded if not re.match(r"/[^/]", address)] == []
    for address in loaded:
        if address.startswith("/static/"):
            assert finders.find(address.removeprefix("/static/").split("?")[0]), address
    script = client.get(next(address for address in loaded if address.startswith("/api/docs")).replace("&amp;", "&"))
    assert script["Content-Type"].startswith("application/javascript")
    assert b'"/api/schema"' in script.content
    assert "<script>" not in html


def test_the_docs_page_alone_may_style_itself(client: Client) -> None:
    def directives(path: str) -> dict[str, str]:
        return {
            name: rest for name, _, rest in (part.strip().partition(" ") for part in client.get(path)["Content-Security-Policy"].split(";"))
        }

    docs, elsewhere = directives("/api/docs"), directives("/api/campaigns")
    assert docs.pop("style-src") == "'self' 'unsafe-inline'"
    assert elsewhere.pop("style-src") == "'self'"
    assert docs == elsewhere
    assert "unsafe" not in str(elsewhere)


def test_docs_and_schema_are_for_who_has_access(client: Client) -> None:
    for path in ("/api/docs", "/api/schema"):
        assert client.get(path, headers={"x-forwarded-for": "203.0.113.9"}).status_code == 401


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_no_request_that_fits_or_breaks_the_schema_gets_an_undocumented_answer(message: Any) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is for development")
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

    key = keys.create("fuzz")[1]
    application = get_wsgi_application()

    def with_key(environ: dict[str, Any], start_response: Any) -> Any:
        return application({**environ, "HTTP_AUTHORIZATION": f"Bearer {key}"}, start_response)

    documented = schemathesis.openapi.from_wsgi("/api/schema", with_key)
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    for mode in schemathesis.GenerationMode:
        for operation in documented.get_all_operations():
            strategy = operation.ok().as_strategy(generation_mode=mode)

            @settings(max_examples=8, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
            @given(strategy)
            def try_it(case: Any) -> None:
                case.call_and_validate(checks=checks)

            try_it()
