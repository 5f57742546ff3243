"""Who sees how things stand while the database, which knows the keys, does not answer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from django.db import OperationalError
from django.test import Client

from campaigns.times import utc_now
from trackingsite.access import keys
from trackingsite.access.models import ApiKey

pytestmark = pytest.mark.django_db


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and no key can be looked for any more."""

    def no_answer(*_: Any, **__: Any) -> None:
        raise OperationalError("away")

    def go() -> None:
        for name in ("filter", "exists"):
            monkeypatch.setattr(ApiKey.objects, name, no_answer)

    return go


def status(path: str, text: str | None = None, method: str = "get") -> int:
    client = Client(REMOTE_ADDR="127.0.0.1" if text is None else "203.0.113.5", raise_request_exception=False)
    return int(getattr(client, method)(path, **({"HTTP_X_API_KEY": text} if text else {})).status_code)


def test_a_key_that_was_let_in_still_sees_how_things_stand_with_the_database_away(away: Callable[[], None]) -> None:
    _, text = keys.create("prometheus", ["read"])
    _, unused = keys.create("never used")
    assert status("/metrics", text) == 200
    away()
    assert status("/metrics", text) == status("/metrics/", text) == 200
    assert "spool" in Client(REMOTE_ADDR="203.0.113.5").get("/health/ready", HTTP_X_API_KEY=text).json()
    assert status("/api/campaigns", text) == 503
    assert status("/metrics", unused) == 503
    assert status("/metrics", text[:-1] + ("0" if text[-1] != "0" else "1")) == 503


def test_a_key_without_the_scope_is_let_in_no_further_with_the_database_away(away: Callable[[], None]) -> None:
    _, text = keys.create("mailer", ["send"])
    assert status("/metrics", text) == 403
    away()
    assert status("/metrics", text) == 403


@pytest.mark.parametrize("end", ["revoked", "expired", "gone"])
def test_a_key_that_ended_is_not_remembered(away: Callable[[], None], end: str) -> None:
    key, text = keys.create("prometheus", expires_at=utc_now() + dt.timedelta(seconds=60))
    assert status("/metrics", text) == 200
    if end == "revoked":
        keys.revoke(key)
    elif end == "gone":
        key.delete()
    if end != "expired":
        assert status("/metrics", text) == 401
        away()
        assert status("/metrics", text) == 503
        return
    away()
    with time_machine.travel(utc_now() + dt.timedelta(seconds=61)):
        assert status("/metrics", text) == 503


def test_the_local_rule_is_closed_with_the_database_away(away: Callable[[], None]) -> None:
    """Whether a key was made meanwhile, only the database knows."""
    assert status("/metrics") == 200
    away()
    assert status("/metrics") == 503
