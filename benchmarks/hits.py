"""The hot path: pixels and signed links beside what only answers, and beside what is usually written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from benchmarks import nginx, servers
from benchmarks.bench import Bench
from benchmarks.child import run_child
from benchmarks.load import load
from benchmarks.postgresql import PostgreSQL
from benchmarks.results import Row, paired

#: Of the length that our own have.
TOKENS = [f"01jq{number:022d}" for number in range(1_000)]
PATH = f"/track/pixel/{TOKENS[0]}"
TARGET = "https://www.example.com/offers/summer?utm_source=mail&utm_campaign=july"


def alternate(bench: Bench, contenders: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """What each contender measured, in rounds in which all have their turn one after the other."""
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(bench.rounds):
        for name, measure in contenders.items():
            measured[name].append(measure())
    return measured


def beside(ours: servers.Tracking, port: int, seconds: float) -> Callable[[], float]:
    """What measures a peer: the rate of its pixel, while our ingester does not disturb it."""

    def measure() -> float:
        with ours.ingester_stopped():
            return load(f"http://127.0.0.1:{port}{PATH}", seconds).rate

    return measure


def pixel(bench: Bench) -> list[Row]:
    ours = servers.Tracking(bench)
    ours.make_messages(TOKENS)
    sqlite, postgresql = (
        servers.Naive(bench, TOKENS, database).port for database in (str(bench.folder / "naive.db"), PostgreSQL(bench).database("naive"))
    )
    peers = {"raw": servers.raw(bench), "nginx": nginx.empty_gif(bench), "sqlite": sqlite, "postgresql": postgresql}
    rates = alternate(
        bench,
        {"ours": lambda: ours.hit(PATH, bench.seconds).rate} | {name: beside(ours, port, bench.seconds) for name, port in peers.items()},
    )
    print(f"  pixel: {ours.check_recorded()}")
    return [
        paired("pixel, the ingester beside it / raw ASGI (hits/s)", rates["ours"], rates["raw"], "≥ 2.0"),
        paired("pixel, the ingester beside it / nginx empty_gif without a log (hits/s)", rates["ours"], rates["nginx"], "≥ 0.48"),
        paired("pixel / naive ORM view on SQLite (hits/s)", rates["ours"], rates["sqlite"], "≥ 65"),
        paired("pixel / naive ORM view on PostgreSQL (hits/s)", rates["ours"], rates["postgresql"], "≥ 130"),
    ]


def fsync(bench: Bench) -> list[Row]:
    ours = servers.Tracking(bench, TRACKING_SPOOL_FSYNC="always")
    return _against_raw(bench, ours, PATH, "pixel, fsync before the answer / raw ASGI (hits/s)", "≥ 0.8")


def redirect(bench: Bench) -> list[Row]:
    ours = servers.Tracking(bench)
    link = urlsplit(run_child("tracking.links:link_url", ours.environment, token=TOKENS[0], url=TARGET))
    return _against_raw(bench, ours, f"{link.path}?{link.query}", "signed redirect / raw ASGI (hits/s)", "≥ 1.3")


def proxied(bench: Bench) -> list[Row]:
    ours = servers.Tracking(bench)
    ours.make_messages(TOKENS)
    before_ours, before_raw = nginx.proxied(bench, ours.port, servers.raw(bench))
    rates = alternate(
        bench,
        {"ours": lambda: ours.hit(PATH, bench.seconds, port=before_ours).rate, "raw": beside(ours, before_raw, bench.seconds)},
    )
    print(f"  proxied: {ours.check_recorded()}")
    return [paired("pixel through nginx / raw ASGI through nginx (hits/s)", rates["ours"], rates["raw"], "≥ 1.0")]


def nginx_log(bench: Bench) -> list[Row]:
    logs = bench.folder / "logs"
    logs.mkdir()
    ours = servers.Tracking(bench, TRACKING_NGINX_LOGS=str(logs))
    ours.make_messages(TOKENS)
    port = nginx.logged_gif(bench, logs, ours.port)
    rates = alternate(
        bench,
        {
            "ours": lambda: ours.hit(PATH, bench.seconds, port=port).rate,
            "nginx": beside(ours, nginx.empty_gif(bench), bench.seconds),
        },
    )
    print(f"  nginx: {ours.check_recorded()}")
    return [paired("pixel by nginx with our log / nginx empty_gif without a log (hits/s)", rates["ours"], rates["nginx"], "≥ 0.75")]


def _against_raw(bench: Bench, ours: servers.Tracking, path: str, name: str, goal: str) -> list[Row]:
    ours.make_messages(TOKENS)
    rates = alternate(bench, {"ours": lambda: ours.hit(path, bench.seconds).rate, "raw": beside(ours, servers.raw(bench), bench.seconds)})
    print(f"  {name.partition(' /')[0]}: {ours.check_recorded()}")
    return [paired(name, rates["ours"], rates["raw"], goal)]
