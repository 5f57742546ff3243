"""A provider's delivery of 1,000 events, until all are applied, beside django-anymail's view with a receiver that uses the ORM."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from benchmarks import servers
from benchmarks.bench import Bench
from benchmarks.hits import alternate
from benchmarks.load import CannotMeasure
from benchmarks.results import Row, paired

EVENTS = 1_000
#: Of a round: one alone, 30 ms, is measured to a tenth.
DELIVERIES = 5
TOKENS = [f"01jq{number:022d}" for number in range(EVENTS)]
KINDS = ("processed", "delivered", "open", "click")
#: 2024-01-15T10:30:00Z, in seconds.
START = 1_705_314_600


def webhook(bench: Bench) -> list[Row]:
    ours = servers.Tracking(bench)
    ours.make_messages(TOKENS)
    naive = servers.Naive(bench, TOKENS, str(bench.folder / "naive.db"))

    def deliver(port: int, path: str, database: Path, table: str) -> float:
        """Events a second, of deliveries one after the other, each with ids of its own. Raises CannotMeasure when not all are rows then."""
        seconds = 0.0
        for _ in range(DELIVERIES):
            body = delivery(time.time_ns())
            before = _rows(database, table)
            began = time.perf_counter()
            status, said = servers.request(port, "POST", path, body)
            seconds += time.perf_counter() - began
            if status != 200 or _rows(database, table) != before + EVENTS:
                raise CannotMeasure(f"POST {path} was answered {status}, {_rows(database, table) - before} rows: {said[:200]!r}")
        return DELIVERIES * EVENTS / seconds

    rates = alternate(
        bench,
        {
            "ours": lambda: deliver(ours.port, "/webhooks/sendgrid", ours.database, "events"),
            "anymail": lambda: deliver(naive.port, "/anymail/sendgrid/tracking/", Path(naive.database), "naive_event"),
        },
    )
    return [paired("webhook of 1,000 events, applied / django-anymail and ORM, SQLite (events/s)", rates["ours"], rates["anymail"], "≥ 20")]


def delivery(number: int) -> bytes:
    """A body as SendGrid sends it. The number goes into the events' ids."""
    events = [
        {
            "event": KINDS[index % len(KINDS)],
            "email": f"{token}@example.com",
            "timestamp": START + index,
            "sg_event_id": f"{number}-{index}",
            "sg_message_id": f"14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.{index}",
            "tracking_token": token,
            "useragent": "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
            "ip": "192.0.2.7",
            "url": "https://www.example.com/offers",
        }
        for index, token in enumerate(TOKENS)
    ]
    return json.dumps(events).encode()


def _rows(database: Path, table: str) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=20)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
