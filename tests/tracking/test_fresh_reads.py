"""A read sees every hit that was answered before it."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.test import Client

from campaigns.events import EventKind, now_ms
from campaigns.models import Message
from tracking.ingest import drain as drain_module
from tracking.spool.lines import hit_line
from tracking.spool.writer import process_writer

pytestmark = pytest.mark.django_db


def hit() -> None:
    process_writer(settings.CONF.spool_dir).append(hit_line(EventKind.OPENED, "uuid-token", now_ms()))


def test_a_hit_is_in_the_very_next_read_of_api_and_pages(client: Client, message: Message) -> None:
    hit()
    assert client.get(f"/api/messages/{message.pk}").json()["open_count"] == 1
    hit()
    assert client.get("/api/dashboard/summary").json()["total_opened"] == 1
    hit()
    assert b"opened" in client.get(f"/dashboard/messages/{message.pk}").content
    message.refresh_from_db()
    assert message.open_count == 3


def test_a_mark_answers_with_what_was_before_it_too(client: Client, message: Message) -> None:
    hit()
    marked = client.post(f"/api/messages/{message.pk}/clicked", {}, content_type="application/json").json()
    assert (marked["open_count"], marked["click_count"]) == (1, 1)


def test_a_create_does_not_wait_for_the_spool(client: Client, message: Message) -> None:
    hit()
    assert client.post("/api/messages", {"recipient_email": "b@example.com"}, content_type="application/json").status_code == 201
    assert drain_module.pending() > 0


def test_a_read_that_misses_something_says_how_much(client: Client, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(events: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(drain_module, "apply", away)
    hit()
    answer = client.get(f"/api/messages/{message.pk}")
    assert int(answer["Tracking-Pending"]) == drain_module.pending() > 0
    assert answer.json()["status"] == "queued"
    monkeypatch.undo()
    answer = client.get(f"/api/messages/{message.pk}")
    assert "Tracking-Pending" not in answer
    assert answer.json()["status"] == "opened"


def test_who_may_not_read_does_not_make_us_work(message: Message) -> None:
    hit()
    Client(REMOTE_ADDR="203.0.113.5").get(f"/api/messages/{message.pk}")
    assert drain_module.pending() > 0
