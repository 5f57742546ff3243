"""What readers ask, by counters and hourly counts, beside counting rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.bench import Bench
from benchmarks.child import run_child
from benchmarks.results import Row, paired, times_faster
from benchmarks.servers import service_environment

CAMPAIGNS = 100


def reads(bench: Bench) -> list[Row]:
    found = {}
    for name, messages in (("small", max(CAMPAIGNS, bench.messages // 1000)), ("big", bench.messages)):
        folder = bench.folder / name
        folder.mkdir()
        found[name] = run_child("benchmarks.reads:measure", service_environment(folder), messages=messages, rounds=bench.rounds)
    big, small = found["big"], found["small"]
    many, few = f"{bench.messages:,}", f"{bench.messages // 1000:,}"
    return [
        times_faster(f"list of {CAMPAIGNS} campaigns over {many} messages / GROUP BY (ms)", big["list"], big["group by"], "≥ 100"),
        paired(f"list of campaigns over {many} messages / over {few} (ms)", big["list"], small["list"], "≤ 1.2"),
        times_faster(f"hourly series of {many} events / from raw events (ms)", big["series"], big["raw events"], "≥ 500"),
    ]


def measure(messages: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each, a round each. Both ways are asked for the same and must answer the same."""
    from benchmarks.data import make_events, make_messages
    from campaigns import queries

    make_messages(messages, CAMPAIGNS)
    campaign = make_events(messages, messages)
    ways: dict[str, Callable[[], Any]] = {
        "list": lambda: queries.campaign_metrics(queries.campaigns()[1 : CAMPAIGNS + 1]),
        "group by": _group_by,
        "series": lambda: queries.timeline(campaign),
        "raw events": lambda: _from_raw_events(campaign),
    }
    numbers = {pk: (metrics["total"], metrics["opened"]) for pk, metrics in ways["list"]().items()}
    assert numbers == {row[0]: (row[1], row[4]) for row in _group_by()}
    assert [(point.at, kind, n) for point in queries.timeline(campaign) for kind, n in point.counts.items()] == [
        (at, {4: "opened", 5: "clicked"}[kind], n) for at, kind, n in _from_raw_events(campaign)
    ]
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(_milliseconds(way))
    return taken


def _milliseconds(way: Callable[[], object], least: float = 0.3) -> float:
    """How long it takes on average, asked for at least 0.3 s."""
    began, times = time.perf_counter(), 0
    while not times or time.perf_counter() - began < least:
        way()
        times += 1
    return (time.perf_counter() - began) / times * 1000


def _group_by() -> list[tuple[Any, ...]]:
    from django.db import connection

    from benchmarks.data import COUNTS

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT campaign_id, {COUNTS} FROM messages GROUP BY campaign_id ORDER BY campaign_id DESC")
        return list(cursor.fetchall())


def _from_raw_events(campaign: int) -> list[tuple[Any, ...]]:
    from django.db import connection

    from campaigns.times import HOUR

    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT occurred_at - occurred_at %% {HOUR}, kind, count(*) FROM events WHERE campaign_id = %s GROUP BY 1, 2 ORDER BY 1, 2",
            [campaign],
        )
        return list(cursor.fetchall())
