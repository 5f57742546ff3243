"""The backend for PostgreSQL: a limit for who cannot wait, and a database that may only be read is one that is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.conf import settings
from django.db import DataError, OperationalError, connection, transaction

from campaigns.events import EventKind, now_ms
from campaigns.models import Campaign, Event, Message
from campaigns.sql.limit import limited
from tests.tracking.running import until
from tracking.ingest.drain import drain, drain_once
from tracking.models import DeadLetter
from tracking.spool import writer
from tracking.spool.lines import hit_line


@pytest.fixture(autouse=True)
def _on_postgresql(transactional_db: None) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("of PostgreSQL alone")


def limit() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        return str(cursor.fetchone()[0])


@contextmanager
def elsewhere(work: Any) -> Iterator[None]:
    """Another thread's connection in a transaction that began with `work` and lasts as long as the block."""
    ready, done = threading.Event(), threading.Event()

    def run() -> None:
        try:
            with transaction.atomic():
                work()
                ready.set()
                done.wait(30)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30)
    try:
        yield
    finally:
        done.set()
        thread.join()


def lock_campaigns() -> None:
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE campaigns IN ACCESS EXCLUSIVE MODE")


def append(*tokens: str) -> None:
    lines = [hit_line(EventKind.OPENED, token, now_ms()) for token in tokens]
    assert writer.process_writer(settings.CONF.spool_dir).append_many(lines)


def only_read(on: bool) -> None:
    """As a standby, to connections that begin from now on."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"ALTER DATABASE {connection.ops.quote_name(connection.settings_dict['NAME'])} SET default_transaction_read_only = {on}"
        )
    connection.close()


@pytest.fixture
def read_only() -> Iterator[None]:
    only_read(True)
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
    only_read(False)


def sleep(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


def test_all_statements_together_have_so_long_and_the_limit_ends_with_the_block() -> None:
    before, done = limit(), 0
    with limited(0.5):
        for _ in range(6):
            try:
                sleep(0.1)
            except OperationalError:
                break
            done += 1
    assert done <= 4, "each of them alone would have had the time"
    with limited(-1), pytest.raises(OperationalError, match="no time"):
        Campaign.objects.exists()
    assert limit() == before


def test_the_limit_ends_with_a_block_whose_transaction_failed() -> None:
    before = limit()
    with pytest.raises(OperationalError), limited(0.1), transaction.atomic():
        sleep(5)
    assert limit() == before
    with suppress(ZeroDivisionError), limited(0.1), transaction.atomic():
        assert limit() != before
        raise ZeroDivisionError
    assert limit() == before


def test_a_rollback_takes_no_more_than_the_time_back(campaign: Campaign) -> None:
    with limited(0.5):
        with suppress(ZeroDivisionError), transaction.atomic():
            Campaign.objects.exists()
            raise ZeroDivisionError
        with pytest.raises(OperationalError):
            sleep(30)


def test_a_block_within_another_has_no_more_time_and_takes_none_of_its(campaign: Campaign) -> None:
    with limited(0.5), limited(30), pytest.raises(OperationalError):
        sleep(20)
    with limited(0.5):
        with limited(0.1), pytest.raises(OperationalError):
            sleep(20)
        with pytest.raises(OperationalError):
            sleep(20)


def test_a_savepoint_is_gone_back_to_as_ever(campaign: Campaign) -> None:
    with limited(10), transaction.atomic():
        for _ in range(3):
            time.sleep(0.02)  # so that the limit would be told anew
            with pytest.raises(DataError), transaction.atomic():
                Campaign.objects.create(name="x" * 1000)
        campaign.save(update_fields=["name"])


def test_a_read_that_is_late_at_its_last_statement_is_answered_all_the_same(message: Message, client: Any) -> None:
    append("uuid-token")

    def lock() -> None:
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")

    with elsewhere(lock):
        assert drain(0.25) > 0
        assert client.get("/api/campaigns").status_code == 200
    assert drain() == 0
    assert Event.objects.count() == 1


def test_brief_questions_do_not_wait_for_a_locked_table(client: Any) -> None:
    with elsewhere(lock_campaigns):
        began = time.monotonic()
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert answer.json()["database"] == "OperationalError"
        assert time.monotonic() - began < 20, "it would be for ever"


def test_a_database_that_may_only_be_read_is_away(message: Message, client: Any, read_only: None) -> None:
    append("uuid-token")
    assert drain(0.25) > 0
    with pytest.raises(OperationalError, match="read-only"):
        drain_once()
    assert not DeadLetter.objects.exists()

    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["database"]) == (503, "ReadOnlySqlTransaction")
    assert client.get("/track/pixel/uuid-token").status_code == 200
    read = client.get(f"/api/messages/{message.pk}")
    assert (read.status_code, read.headers["Tracking-Pending"] > "0") == (200, True)
    made = client.post("/api/campaigns", {"name": "new"}, content_type="application/json")
    assert (made.status_code, made.headers["Retry-After"]) == (503, "1")

    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
    until(lambda: drain() == 0)
    assert Event.objects.count() == 2
