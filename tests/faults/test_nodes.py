"""More than one machine: any of them is killed, Redis and PostgreSQL go and come. What was answered is there, once."""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

if not os.environ.get("CI"):
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is missing (pip install -e '.[postgres]')")

import psycopg

from tests.faults.hitting import Hits
from tests.faults.nodes import TOKENS, Ingester, Node, counted, make_messages, total, wait_for
from tests.services import PostgreSQL, RedisServer, database_url, postgresql, redis_server
from tests.tracking.running import until

__all__ = ["database_url", "postgresql", "redis_server"]
pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.xdist_group("nodes"),  # one PostgreSQL for all of them
    pytest.mark.skipif(
        "TRACKING_TEST_DATABASE_URL" in os.environ, reason="they start a PostgreSQL of their own, whatever the others run on"
    ),
]

#: Kills, and seconds of load between them; `FAULT_ROUNDS=20 FAULT_SECONDS=5` for the long form.
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
SECONDS = float(os.environ.get("FAULT_SECONDS", "8")) / 8
#: Hits a second on each node, pixels and links each.
RATE = 150


@pytest.fixture
def migrated(tmp_path: Path, database_url: str) -> str:
    Node(tmp_path / "migrating", database_url).run("manage.py", "migrate", "--verbosity", "0")
    return database_url


class Load:
    """Pixels and signed links of all messages, on every node."""

    def __init__(self, nodes: list[Node], links: dict[str, str]) -> None:
        self.pixels = [Hits(node.port, TOKENS, 2, RATE) for node in nodes]
        self.links = [Hits(node.port, TOKENS, 2, RATE, links) for node in nodes]
        self._all = [*self.pixels, *self.links]
        self._stack = ExitStack()

    def __enter__(self) -> Load:
        for hits in self._all:
            self._stack.enter_context(hits)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def answered(self) -> int:
        return sum(hits.count for hits in self._all)

    @property
    def broken(self) -> int:
        return sum(hits.broken for hits in self._all)

    def go_on(self) -> None:
        """Until every one of them had answers for a while."""
        before = [hits.count for hits in self._all]
        time.sleep(SECONDS)
        until(lambda: all(hits.count > count + 20 for hits, count in zip(self._all, before, strict=True)), 30)

    def check(self, database_url: str) -> None:
        """Every answered hit is counted once; one whose connection broke perhaps, and never twice."""
        assert [hits.refused for hits in self._all] == [[] for _ in self._all]
        wait_for(database_url, self.answered)
        time.sleep(1)  # for what comes twice
        for found, kind in zip(counted(database_url), (self.pixels, self.links), strict=True):
            broken = sum(hits.broken for hits in kind)
            for token in TOKENS:
                answered = sum(hits.answered[token] for hits in kind)
                assert answered <= found[token] <= answered + broken, token
        assert self.answered <= total(database_url) <= self.answered + self.broken


def test_nodes_that_drain_for_themselves_survive_the_loss_of_one(tmp_path: Path, migrated: str) -> None:
    with Node(tmp_path / "a", migrated) as one, Node(tmp_path / "b", migrated, workers=2) as other:
        links = make_messages(one)
        with Load([one, other], links) as load:
            for _ in range(ROUNDS):
                load.go_on()
                one.lose_power()
                time.sleep(SECONDS)
                one.start()
            load.go_on()
        load.check(migrated)
        message = other.get("/api/messages/1").json()
        assert message["open_count"] > 0
        assert one.get("/api/messages/1").json() == message, "what one has taken in the other shows"


def test_nodes_that_ship_and_ingesters_survive_the_loss_of_one_of_each(tmp_path: Path, migrated: str, redis_server: RedisServer) -> None:
    setup = migrated, redis_server.url
    with (
        Node(tmp_path / "a", *setup) as one,
        Node(tmp_path / "b", *setup, workers=2) as other,
        Ingester(tmp_path / "c", *setup) as first,
        Ingester(tmp_path / "d", *setup),
    ):
        links = make_messages(one)
        with Load([one, other], links) as load:
            for _ in range(ROUNDS):
                load.go_on()
                one.lose_power()
                first.kill()
                time.sleep(SECONDS)
                one.start()
                first.__enter__()
            load.go_on()
        load.check(migrated)
        assert first.stop() == 0


def test_hits_wait_for_who_takes_them_in_and_a_read_does_not(tmp_path: Path, migrated: str, redis_server: RedisServer) -> None:
    import redis

    from tracking.spool.stream import STREAM

    setup = migrated, redis_server.url
    with Node(tmp_path / "a", *setup) as node, redis.Redis.from_url(redis_server.url, protocol=2) as client:
        make_messages(node)
        assert node.get("/track/pixel/token-0").status == 200
        until(lambda: client.xlen(STREAM) == 1)
        assert total(migrated) == 0
        assert node.get("/api/messages/1").json()["open_count"] == 1, "a read takes the node's own in"
        assert node.get("/track/pixel/token-1").status == 200
        until(lambda: client.xlen(STREAM) == 2)
        with Ingester(tmp_path / "b", *setup) as ingester:
            wait_for(migrated, 2, 20)
            until(lambda: client.xlen(STREAM) == 0)
            assert ingester.stop() == 0
        assert node.get("/track/pixel/token-2").status == 200
        assert node.stop() == 0
        assert total(migrated) == 3, "what nobody took in is applied at the end: a node may have no disk that lasts"
        assert [path.name for path in node.spool.glob("*.jsonl")] == []


def lose_redis(server: RedisServer) -> None:
    """Killed, and all that it kept is gone."""
    server.kill()
    time.sleep(SECONDS)
    for path in server.folder.glob("appendonlydir/*"):
        path.unlink()
    server.start()


def flush_redis(server: RedisServer) -> None:
    import redis

    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.flushall()


def restart_redis(server: RedisServer) -> None:
    server.kill()
    time.sleep(SECONDS)
    server.start()


def test_redis_may_go_and_come_and_forget(tmp_path: Path, migrated: str, redis_server: RedisServer) -> None:
    setup = migrated, redis_server.url
    with (
        Node(tmp_path / "a", *setup) as one,
        Node(tmp_path / "b", *setup) as other,
        Ingester(tmp_path / "c", *setup),
        Ingester(tmp_path / "d", *setup),
    ):
        links = make_messages(one)
        with Load([one, other], links) as load:
            for trouble in [restart_redis, flush_redis, lose_redis] * ROUNDS:
                load.go_on()
                trouble(redis_server)
            load.go_on()
        load.check(migrated)
        assert load.broken == 0
        said = len(re.findall("Redis is away", one.log))
        assert 1 <= said <= 1 + 2 * ROUNDS, one.log
        assert "Traceback" not in one.log


@pytest.mark.parametrize("shipping", [False, True], ids=["draining", "shipping"])
def test_postgresql_may_go_and_come(
    tmp_path: Path, migrated: str, postgresql: PostgreSQL, request: pytest.FixtureRequest, shipping: bool
) -> None:
    with ExitStack() as stack:
        url = request.getfixturevalue("redis_server").url if shipping else ""
        nodes = [stack.enter_context(Node(tmp_path / name, migrated, url)) for name in "ab"]
        if shipping:
            stack.enter_context(Ingester(tmp_path / "c", migrated, url))
        links = make_messages(nodes[0])
        with Load(nodes, links) as load:
            for mode in ["fast", "immediate"] * ROUNDS:
                load.go_on()
                postgresql.stop(mode)
                try:
                    load.go_on()
                    assert nodes[0].get("/health").status == 200
                    assert nodes[0].get("/health/ready").status == 503
                finally:
                    postgresql.start()
            load.go_on()
        load.check(migrated)
        assert load.broken == 0


def test_a_spool_in_redis_with_sqlite_is_one_line(tmp_path: Path) -> None:
    node = Node(tmp_path / "a", "", "redis://127.0.0.1:1/0").start(wait=False)
    assert node.process is not None
    assert node.process.wait(20) == 1
    assert node.log.splitlines() == [
        "Cannot start: TRACKING_SPOOL_URL: needs PostgreSQL (set TRACKING_DATABASE_URL): a SQLite file is of one machine"
    ]


def test_a_node_starts_and_answers_without_redis(tmp_path: Path, migrated: str) -> None:
    node = Node(tmp_path / "a", migrated, "redis://127.0.0.1:1/0")
    node.settings["TRACKING_CACHE_URL"] = "redis://127.0.0.1:1/1"
    with node:
        make_messages(node)
        assert node.get("/track/pixel/token-0").status == 200
        until(lambda: "Redis is away" in node.log)
        assert node.get("/api/messages/1").json()["open_count"] == 1
        assert node.get("/dashboard").status == 200
    with psycopg.connect(migrated) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
