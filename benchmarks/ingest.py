"""From the spool into the database, beside the ORM's bulk methods; and how many bytes a hit then takes."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.bench import Bench
from benchmarks.child import run_child
from benchmarks.postgresql import PostgreSQL
from benchmarks.results import Row, alone, paired
from benchmarks.servers import service_environment

if TYPE_CHECKING:
    from campaigns.events import TrackingEvent

#: Hits of a round, as a share of "a million": the ORM takes longest.
SHARE, ORM_SHARE = 10, 200
#: Rows a statement of the ORM; from 50 to 2,000 it made no difference that could be told from noise.
ORM_BATCH = 500
AGENTS = [f"Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0" for version in range(100, 140)]


def ingest(bench: Bench) -> list[Row]:
    rows = []
    settings = {"messages": bench.messages // SHARE, "hits": bench.messages // SHARE, "orm_hits": bench.messages // ORM_SHARE}
    for vendor, goal in (("SQLite", "≥ 40"), ("PostgreSQL", "≥ 30")):
        folder = bench.folder / vendor
        folder.mkdir()
        environment = service_environment(folder, **({} if vendor == "SQLite" else postgresql_settings(bench, folder)))
        rates = run_child("benchmarks.ingest:measure", environment, **settings, rounds=bench.rounds)
        name = f"ingest of hits on random messages / bulk_create and bulk_update, {vendor} (hits/s)"
        rows.append(paired(name, rates["ours"], rates["orm"], goal))
    return rows


def storage(bench: Bench) -> list[Row]:
    settings = {"messages": bench.messages // SHARE, "hits": bench.messages // 5}
    sizes = run_child("benchmarks.ingest:measure_bytes", service_environment(bench.folder), **settings)
    return [
        alone("bytes a hit on SQLite, with the index by message", sizes["events"] + sizes["idx_events_message_id"], "≤ 56"),
        alone("bytes a hit on SQLite, with every index that pages need", sum(sizes.values()), "≤ 70"),
    ]


def postgresql_settings(bench: Bench, folder: Path, name: str = "tracking") -> dict[str, str]:
    """Settings for our service on a PostgreSQL of its own."""
    return {
        "TRACKING_DATABASE_URL": PostgreSQL(bench).database(name),
        "TRACKING_SECRET_KEY": "only-for-the-bench-" + "x" * 40,
        "TRACKING_DATA_DIR": str(folder / "data"),
    }


def measure(messages: int, hits: int, orm_hits: int, rounds: int) -> dict[str, list[float]]:
    """Hits a second, a round each: ours from the spool's files, the ORM's from the same lines."""
    from benchmarks.data import make_messages
    from campaigns.models import Event
    from tracking import garbage
    from tracking.ingest.drain import drain

    garbage.settle()  # as the ingester does; for both
    tokens = make_messages(messages)
    chance = random.Random(1)
    rates: dict[str, list[float]] = {"ours": [], "orm": []}
    for _ in range(rounds):
        for name, count in (("ours", hits), ("orm", orm_hits)):
            lines = _lines(tokens, count, chance)
            before = Event.objects.count()
            if name == "ours":
                _write_segment(lines)
                began = time.perf_counter()
                left = drain()
            else:
                began = time.perf_counter()
                left = _apply_by_orm(lines)
            rates[name].append(count / (time.perf_counter() - began))
            assert left == 0
            assert Event.objects.count() == before + count
    return rates


def fill_spool(messages: int, hits: int) -> None:
    """Messages, and hits on them that wait to be applied."""
    from benchmarks.data import make_messages

    _write_segment(_lines(make_messages(messages), hits, random.Random(1)))


def measure_bytes(messages: int, hits: int) -> dict[str, float]:
    """Bytes a hit of the table of events and of each index, as they stand after ingestion, half-empty pages and all."""
    from django.db import connection

    from benchmarks.data import make_messages
    from tracking.ingest.drain import drain

    _write_segment(_lines(make_messages(messages), hits, random.Random(1)))
    drain()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM events")
        (count,) = cursor.fetchone()
        assert count == hits
        # dbstat knows the pages of each; Debian's SQLite and Python's own builds have it
        cursor.execute(
            "SELECT s.name, sum(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name WHERE m.tbl_name = 'events' GROUP BY s.name"
        )
        return {name: size / hits for name, size in cursor.fetchall()}


def _lines(tokens: Sequence[str], count: int, chance: random.Random) -> list[bytes]:
    """Opens of random messages over an hour, as docs/spool.md has them."""
    from campaigns.events import now_ms

    now = now_ms()
    return [
        b'{"v":1,"k":"opened","t":"%b","at":%d,"ip":"192.0.2.%d","ua":"%b"}\n'
        % (chance.choice(tokens).encode(), now - chance.randrange(3_600_000), chance.randrange(256), chance.choice(AGENTS).encode())
        for _ in range(count)
    ]


def _write_segment(lines: Sequence[bytes]) -> None:
    from django.conf import settings

    from tracking.spool.writer import SpoolWriter

    writer = SpoolWriter(settings.CONF.spool_dir)
    for start in range(0, len(lines), 1000):
        writer.append_many(lines[start : start + 1000])
    writer.close()


def _apply_by_orm(lines: Sequence[bytes]) -> int:
    """The same rows and states, without counters, links and hourly counts: how it is done with bulk methods alone."""
    from django.db import transaction

    from campaigns.choices import Kind, Source
    from campaigns.models import Event, Message, UserAgent
    from tracking.spool.lines import Lost, parse_line

    events: list[TrackingEvent] = [said for said in map(parse_line, lines) if not isinstance(said, Lost)]
    agents: dict[Any, int] = {}
    with transaction.atomic():
        messages = {}
        for start in range(0, len(events), ORM_BATCH):
            tokens = {str(event.token) for event in events[start : start + ORM_BATCH]}
            messages.update({message.tracking_token: message for message in Message.objects.filter(tracking_token__in=tokens)})
        rows = []
        for event in events:
            message = messages[str(event.token)]
            if event.user_agent not in agents:
                digest = str(event.user_agent).encode()[-16:]
                agents[event.user_agent] = UserAgent.objects.get_or_create(digest=digest, user_agent=event.user_agent, method="GET")[0].pk
            rows.append(
                Event(
                    message=message,
                    campaign_id=message.campaign_id,
                    kind=Kind.OPENED,
                    occurred_at=event.occurred_at,
                    source=Source.HIT,
                    user_agent_id=agents[event.user_agent],
                    ip=event.ip,
                )
            )
            message.open_count += 1
            message.opened_at = message.opened_at or event.occurred_at  # type: ignore[assignment]
            message.status = "opened" if message.status in ("queued", "sent", "delivered") else message.status
        Event.objects.bulk_create(rows, batch_size=ORM_BATCH)
        Message.objects.bulk_update(messages.values(), ["open_count", "opened_at", "status"], batch_size=ORM_BATCH)
    return 0
