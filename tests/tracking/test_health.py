"""Health: alive, and ready."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import time_machine
from django.conf import settings
from django.db import OperationalError, ProgrammingError, connection
from django.test import Client

from tracking.metrics.names import count_loss
from tracking.metrics.shared import process_counters

FAR = {"REMOTE_ADDR": "203.0.113.5"}


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
@pytest.mark.django_db
def test_head_answers_like_get_and_nothing_else_is_allowed(path: str) -> None:
    client = Client(**FAR)
    asked, probed = client.get(path), client.head(path)
    assert (probed.status_code, probed["Content-Length"], probed.content) == (200, str(len(asked.content)), b"")
    assert "no-store" in asked["Cache-Control"]
    for method in (client.post, client.put, client.delete):
        answer = method(path)
        assert (answer.status_code, b"healthy" in answer.content) == (405, False)


@pytest.mark.django_db
def test_who_may_read_sees_database_spool_and_lag() -> None:
    client = Client()
    report = client.get("/health/ready").json()
    assert report.pop("spool").pop("free_bytes") > 1_000_000
    assert report == {"status": "ready", "database": "ok", "lag_seconds": 0.0, "ingesters": 0}
    client.get("/track/pixel/other")
    client.get("/track/pixel/tok")
    report = client.get("/health/ready").json()
    assert report["spool"]["pending"] > 0
    assert report["lag_seconds"] >= 0
    assert Client(**FAR).get("/health/ready").json() == {"status": "ready"}


@pytest.mark.django_db
def test_a_node_that_is_behind_says_so_and_stays_in_rotation() -> None:
    with time_machine.travel("2026-03-01T12:00:00Z") as clock:
        Client().get("/track/pixel/tok")
        assert Client(**FAR).get("/health/ready").json() == {"status": "ready"}
        clock.shift(61)
        answer = Client(**FAR).get("/health/ready")
        assert (answer.status_code, answer.json()) == (200, {"status": "degraded"})
        assert Client().get("/health/ready").json()["lag_seconds"] >= 61


@pytest.mark.django_db
def test_a_node_that_loses_hits_is_unready_whatever_room_its_disk_has() -> None:
    with time_machine.travel("2026-03-01T12:00:00Z") as clock:
        count_loss(process_counters(settings.CONF.spool_dir), 2)
        answer = Client().get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "unready")
        spool = answer.json()["spool"]
        assert (spool["writable"], spool["dropped"]) == (False, 2)
        clock.shift(11)
        answer = Client().get("/health/ready")
        assert (answer.status_code, answer.json()["spool"]["dropped"]) == (200, 2)


@pytest.mark.django_db
def test_without_the_database_the_state_of_the_spool_is_still_told(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    admin_client.get("/track/pixel/tok")
    monkeypatch.setattr("tracking.readiness.database_trouble", lambda: "OperationalError")
    answer = admin_client.get("/health/ready")
    assert answer.status_code == 503
    assert "Retry-After" in answer
    report = answer.json()
    assert (report["status"], report["database"], report["lag_seconds"]) == ("unready", "OperationalError", None)
    assert report["spool"]["pending"] > 0


@pytest.mark.django_db
def test_a_database_that_is_away_hides_the_details_it_would_take_a_key_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("away")

    connection.close()
    monkeypatch.setattr(connection, "ensure_connection", away)
    answer = Client().get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "unready"})


@pytest.mark.django_db
def test_a_database_without_our_tables_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    def foreign() -> None:
        raise ProgrammingError("no such relation")

    monkeypatch.setattr("tracking.brief_queries.Campaign.objects.exists", foreign)
    report = Client().get("/health/ready").json()
    assert (report["status"], report["database"]) == ("unready", "ProgrammingError")


@pytest.mark.django_db
def test_a_spool_that_cannot_be_written_is_not_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    monkeypatch.setitem(settings.CONF.__dict__, "spool_dir", file / "spool")
    answer = Client(**FAR).get("/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "unready"})


@pytest.mark.django_db
def test_a_full_disk_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs("/")
    full = os.statvfs_result((*real[:4], 0, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    assert Client(**FAR).get("/health/ready").status_code == 503
