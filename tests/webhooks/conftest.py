from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tracking.conf import Conf

#: As the provider's servers call: through a proxy, from elsewhere.
ELSEWHERE = {"REMOTE_ADDR": "203.0.113.9", "HTTP_X_FORWARDED_FOR": "198.51.100.7"}

Post = Callable[..., Any]


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


@pytest.fixture
def post(client: Client) -> Post:
    """POST bytes as they are, anything else as JSON, as `curl -d` does: with the content type of a form."""

    def post(path: str, body: Any, **extra: str) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return client.post(f"/webhooks/{path}", raw, content_type="application/x-www-form-urlencoded", **extra)

    return post


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    """Run with these settings and defaults for the rest of the test."""

    def configure(**values: str) -> None:
        settings.CONF = Conf(values)

    return configure


def counts(accepted: int = 0, ignored: int = 0, duplicates: int = 0, rejected: int = 0) -> dict[str, int]:
    return {"accepted": accepted, "ignored": ignored, "duplicates": duplicates, "rejected": rejected}


def problem(response: Any, status: int) -> str:
    """The sentence of a refusal."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    detail: str = response.json()["detail"]
    return detail
