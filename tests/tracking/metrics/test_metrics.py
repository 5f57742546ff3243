"""`/metrics`: what it shows, of whom, and to whom."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, transaction
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from campaigns.models import Message
from tracking.conf import PROJECT_ROOT
from tracking.ingest.drain import drain, forget_positions
from tracking.metrics.middleware import route_of
from tracking.metrics.names import count_ingested
from tracking.metrics.shared import process_counters
from tracking.models import DeadLetter
from tracking.spool.writer import process_writer
from trackingsite.access import keys

pytestmark = pytest.mark.django_db

FAR = {"REMOTE_ADDR": "203.0.113.5"}


def samples(client: Client) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every number, by name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.content
    families = text_string_to_metric_families(answer.content.decode())
    return {(each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples}


def number(client: Client, name: str, **labels: str) -> float:
    return samples(client)[name, tuple(sorted(labels.items()))]


# -- hits


def test_hits_are_counted_by_kind_and_class_of_status(client: Client, message: Message) -> None:
    assert number(client, "tracking_hits_total", kind="pixel", status="2xx") == 0
    client.get("/track/pixel/uuid-token")
    client.head("/track/pixel/anything")
    client.get("/track/redirect/uuid-token?url=https://example.com/")
    client.get("/track/redirect/uuid-token")
    client.post("/track/pixel/uuid-token")
    found = samples(client)
    hits = {labels: n for (name, labels), n in found.items() if name == "tracking_hits_total"}
    assert hits == {
        (("kind", "pixel"), ("status", "2xx")): 2,
        (("kind", "pixel"), ("status", "4xx")): 1,
        (("kind", "redirect"), ("status", "3xx")): 1,
        (("kind", "redirect"), ("status", "4xx")): 1,
    }
    assert not any("track" in value for name, labels in found for _, value in labels), "hits are no requests of the others"


def test_a_backlog_is_shown_as_it_was_found_and_counts_are_fresh(client: Client, message: Message) -> None:
    line = b'{"v":1,"k":"opened","t":"%b","at":1705314600000}\n'
    assert process_writer(settings.CONF.spool_dir).append_many([line % b"uuid-token", line % b"nobody", b"no JSON\n"])
    found = samples(client)
    assert found["tracking_spool_bytes", ()] == sum(map(len, (line % b"uuid-token", line % b"nobody", b"no JSON\n")))
    assert found["tracking_spool_segments", ()] == 1
    assert found["tracking_spool_age_seconds", ()] > 1_000_000
    assert (found["tracking_unknown_tokens_total", ()], found["tracking_dead_letters", ()]) == (1, 1)
    assert DeadLetter.objects.count() == 1
    assert number(client, "tracking_spool_bytes") == 0


@pytest.mark.django_db(transaction=True)
def test_what_is_taken_in_is_counted_with_how_late_it_was(client: Client, message: Message) -> None:
    line = b'{"v":1,"k":"opened","t":"%b","at":1705314600000}\n'
    process_writer(settings.CONF.spool_dir).append_many([line % b"uuid-token", line % b"uuid-token", line % b"nobody", b"no JSON\n"])
    drain()
    drain()
    found = samples(client)
    taken = {outcome: found["tracking_ingest_events_total", (("outcome", outcome),)] for outcome in ("applied", "unknown", "dead_letter")}
    assert taken == {"applied": 2, "unknown": 1, "dead_letter": 1}
    assert found["tracking_ingest_lag_seconds_bucket", (("le", "3600.0"),)] == 0
    assert found["tracking_ingest_lag_seconds_count", ()] == 1
    assert found["tracking_ingest_lag_seconds_sum", ()] > 1_000_000


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_is_not_committed_is_not_counted(client: Client, message: Message) -> None:
    process_writer(settings.CONF.spool_dir).append(b'{"v":1,"k":"opened","t":"uuid-token","at":1705314600000}\n')
    with transaction.atomic():
        drain()
        transaction.set_rollback(True)
    forget_positions()
    drain()
    assert number(client, "tracking_ingest_events_total", outcome="applied") == 1


def test_a_lag_falls_into_the_bucket_of_the_bound_that_it_does_not_exceed(client: Client) -> None:
    counters = process_counters(settings.CONF.spool_dir)
    for lag in (0.05, 0.06, 10_000.0):
        count_ingested(counters, 1, 0, 0, lag)
    found = samples(client)
    buckets = {float(dict(labels)["le"]): n for (name, labels), n in found.items() if name == "tracking_ingest_lag_seconds_bucket"}
    assert (buckets[0.05], buckets[0.1], buckets[3600.0], buckets[float("inf")]) == (1, 2, 2, 3)
    assert found["tracking_ingest_lag_seconds_sum", ()] == pytest.approx(10_000.11)


# -- requests


def test_requests_are_counted_by_where_they_went(client: Client, message: Message) -> None:
    for path in ("/health", "/health", "/api/messages/1", f"/api/messages/{message.pk}", "/nowhere", "/api/nowhere", "/admin/login/"):
        client.get(path)
    client.post("/health")
    Client(**FAR).get("/api/campaigns")
    found = samples(client)

    def counted(route: str, method: str, status: str) -> float:
        return found.get(("tracking_http_requests_total", (("method", method), ("route", route), ("status", status))), 0)

    assert (counted("/health", "GET", "200"), counted("/health", "POST", "405")) == (2, 1)
    assert counted("/api/messages/{pk}", "GET", "200") + counted("/api/messages/{pk}", "GET", "404") == 2
    assert (counted("other", "GET", "404"), counted("/api", "GET", "404")) == (1, 1)
    assert counted("/admin", "GET", "200") == 1
    assert counted("/api", "GET", "401") == 1
    assert found["tracking_http_request_duration_seconds_count", (("route", "/health"),)] == 3
    assert found["tracking_http_request_duration_seconds_bucket", (("le", "+Inf"), ("route", "/health"))] == 3
    assert 0 < found["tracking_http_request_duration_seconds_sum", (("route", "/health"),)] < 3


def test_labels_are_never_what_a_client_wrote(client: Client) -> None:
    odd = [f"/x{number}" for number in range(20)]
    odd += [f"/api/campaigns/{number}" for number in range(20)]
    odd += [
        f"/{part}/y{number}" for number in range(5) for part in ("api", "admin", "static", "webhooks", "dashboard", "metrics", "health")
    ]
    odd += [f"/track/pixel/token-{number}" for number in range(5)] + ["/%ff", "/" + "a" * 5000]
    for number_, path in enumerate(odd):
        client.get(path)
        client.generic(f"METHOD{number_}", path)
    labels = {value for _, pairs in samples(client) for name, value in pairs if name in ("route", "method")}
    assert not [value for value in labels if any(character.isdigit() for character in value)], labels
    assert len(labels) < 25


@given(st.text(), st.none() | st.just("api/campaigns/<int:pk>"))
def test_a_route_is_one_of_few(path: str, pattern: str | None) -> None:
    assert route_of(path, pattern) in {
        "other", "/admin", "/api", "/dashboard", "/health", "/metrics", "/static", "/track", "/webhooks", "/api/campaigns/{pk}",
    }  # fmt: skip


def test_items_of_webhooks_are_counted_by_provider_and_outcome(client: Client, message: Message) -> None:
    events = [
        {"event": "delivered", "email": "user@example.com", "timestamp": 1705314600, "sg_event_id": "a", "tracking_token": "uuid-token"},
        {"event": "delivered", "email": "user@example.com", "timestamp": 1705314600, "sg_event_id": "a", "tracking_token": "uuid-token"},
        {"event": "group_resubscribe", "timestamp": 1705314600, "sg_event_id": "b"},
        7,
    ]
    answer = client.post("/webhooks/sendgrid", json.dumps(events), content_type="application/json")
    received = answer.json()
    found = samples(client)
    counted = {dict(labels)["outcome"]: n for (name, labels), n in found.items() if name == "tracking_webhook_items_total"}
    assert counted == {outcome: n for outcome, n in received.items() if n}
    assert sum(counted.values()) == 4
    assert found["tracking_http_requests_total", (("method", "POST"), ("route", "/webhooks/sendgrid"), ("status", "200"))] == 1


# -- the rest of it


def test_it_says_what_runs_and_since_when(client: Client) -> None:
    client.get("/health")
    found = samples(client)
    [build] = [dict(labels) for (name, labels), n in found.items() if name == "tracking_build_info"]
    assert set(build) == {"version", "python", "django", "database"}
    assert found["process_start_time_seconds", ()] > 1_700_000_000
    assert (found["tracking_database_up", ()], found["tracking_ingesters", ()], found["tracking_spool_writable", ()]) == (1, 0, 1)
    assert found["tracking_spool_free_bytes", ()] > 1_000_000


def test_openmetrics_are_answered_to_who_asks_for_them(client: Client) -> None:
    answer = client.get("/metrics", HTTP_ACCEPT="application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert "tracking_hits" in {family.name for family in openmetrics_families(answer.content.decode())}
    assert client.get("/metrics")["Content-Type"].startswith("text/plain; version=0.0.4")


def test_with_the_database_away_the_processes_are_still_shown(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr("tracking.ingest.status.SpoolPosition.objects.filter", away)
    monkeypatch.setattr("tracking.metrics.exposition.DeadLetter.objects.count", away)
    assert process_writer(settings.CONF.spool_dir).append(b'{"v":1,"k":"lost","n":1}\n')
    found = samples(admin_client)
    assert found["tracking_database_up", ()] == 0
    assert found["tracking_spool_bytes", ()] == 25, "as far as this process knows"
    assert ("tracking_spool_age_seconds", ()) not in found
    assert found["tracking_hits_total", (("kind", "pixel"), ("status", "2xx"))] == 0
    assert ("tracking_dead_letters", ()) not in found


@pytest.mark.parametrize("chunks", [7, None])
def test_where_spools_are_shipped_what_is_on_its_way_is_shown(client: Client, monkeypatch: pytest.MonkeyPatch, chunks: int | None) -> None:
    assert ("tracking_stream_up", ()) not in samples(client)
    monkeypatch.setitem(settings.CONF.__dict__, "spool_url", "redis://127.0.0.1:1/0")
    monkeypatch.setattr("tracking.spool.stream.stream_status", lambda url: {"chunks": chunks, "oldest_seconds": chunks and 2.5})
    found = {name: n for (name, _), n in samples(client).items() if name.startswith("tracking_stream")}
    known = {"tracking_stream_up": 1, "tracking_stream_chunks": 7, "tracking_stream_age_seconds": 2.5}
    assert found == (known if chunks else {"tracking_stream_up": 0})


def test_every_name_is_documented(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.CONF.__dict__, "spool_url", "redis://127.0.0.1:1/0")
    monkeypatch.setattr("tracking.spool.stream.stream_status", lambda url: {"chunks": 1, "oldest_seconds": 1.0})
    page = (PROJECT_ROOT / "docs" / "deployment.md").read_text()
    names = re.findall(r"^# TYPE (\S+)", client.get("/metrics").content.decode(), re.MULTILINE)
    assert len(names) > 15
    assert [name for name in names if f"`{name}`" not in page] == []


def test_it_is_shown_to_who_may_read_the_api() -> None:
    far = Client(**FAR)
    refused = far.get("/metrics")
    assert (refused.status_code, b"tracking_" in refused.content) == (401, False)
    assert Client().get("/metrics").status_code == 200
    key = keys.create("prometheus", scopes=["read"])[1]
    assert Client().get("/metrics").status_code == 401, "the local rule ends with the first key"
    assert far.get("/metrics", HTTP_AUTHORIZATION=f"Bearer {key}").status_code == 200
    assert far.get("/metrics", HTTP_X_API_KEY=key).status_code == 200
    assert far.get("/metrics", HTTP_X_API_KEY=key + "x").status_code == 401
    only_write = keys.create("writer", scopes=["write"])[1]
    assert far.get("/metrics", HTTP_X_API_KEY=only_write).status_code == 403


def test_staff_may_read_it(admin_client: Client) -> None:
    assert admin_client.get("/metrics", REMOTE_ADDR="203.0.113.5").status_code == 200


def test_nothing_else_than_reading_is_allowed(client: Client) -> None:
    assert client.head("/metrics").status_code == 200
    for method in (client.post, client.put, client.delete):
        assert method("/metrics").status_code == 405
