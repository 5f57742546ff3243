"""PostgreSQL falls and takes its last commits back, or is put back to a copy, under servers that go on: it catches up, each hit once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

if not os.environ.get("CI"):
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is missing (pip install -e '.[postgres]')")

import psycopg

from tests.faults.hitting import Hits
from tests.faults.nodes import TOKENS, Ingester, Node, counted, make_messages, total, wait_for
from tests.services import PostgreSQL, database_url, postgresql, redis_server
from tests.tracking.running import until

__all__ = ["database_url", "postgresql", "redis_server"]
pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.xdist_group("lost-commits"),  # one PostgreSQL for all of them
    pytest.mark.skipif(
        "TRACKING_TEST_DATABASE_URL" in os.environ, reason="they start a PostgreSQL of their own, whatever the others run on"
    ),
]

#: How often PostgreSQL falls; `FAULT_ROUNDS=20` for the long form.
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "2"))


@pytest.fixture
def lazy(postgresql: PostgreSQL) -> PostgreSQL:
    """It syncs what was committed without waiting so late that a fall loses it: after ten seconds, not a fifth of one."""
    with psycopg.connect(postgresql.url(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
    return postgresql


@pytest.fixture
def migrated(tmp_path: Path, lazy: PostgreSQL, database_url: str) -> str:
    Node(tmp_path / "migrating", database_url).run("manage.py", "migrate", "--verbosity", "0")
    return database_url


class Ingestion:
    """Whoever applies hits: the node's own ingester, and the one of another machine where the node ships."""

    def __init__(self, node: Node, apart: Ingester | None) -> None:
        self.node, self.apart = node, apart

    def signal(self, number: int) -> None:
        other = [self.apart.process.pid] if self.apart and self.apart.process else []
        for pid in [*self.node.ingesters(), *other]:
            os.kill(pid, number)


def hit(node: Node, links: dict[str, str], agent: str) -> int:
    """A pixel and a link of each message, by a program that was never seen before; how many that is."""
    for token, link in links.items():
        assert node.get(f"/track/pixel/{token}", {"User-Agent": agent}).status == 200
        assert node.get(link, {"User-Agent": agent}).status == 302
    return 2 * len(links)


def agents(database_url: str) -> dict[str, int]:
    """Events by the program that asked; those that point at none are counted under ''."""
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT coalesce(u.user_agent, ''), count(*) FROM events e LEFT JOIN user_agents u ON u.id = e.user_agent_id GROUP BY 1"
        )
        return dict(rows.fetchall())


@pytest.fixture(params=[False, True], ids=["draining", "shipping"])
def setup(request: pytest.FixtureRequest, tmp_path: Path, migrated: str) -> Iterator[tuple[Node, Ingestion, dict[str, str]]]:
    with ExitStack() as stack:
        url = request.getfixturevalue("redis_server").url if request.param else ""
        node = stack.enter_context(Node(tmp_path / "a", migrated, url))
        apart = stack.enter_context(Ingester(tmp_path / "b", migrated, url)) if request.param else None
        links = {token: link for token, link in make_messages(node).items() if token in TOKENS[:5]}
        until(node.ingesters, 20)
        yield node, Ingestion(node, apart), links


def test_commits_that_a_fall_takes_back_are_made_again(migrated: str, lazy: PostgreSQL, setup) -> None:
    node, ingestion, links = setup
    expected: dict[str, int] = {}
    lost = 0
    for number in range(ROUNDS):
        agent = f"Agent/{number}"
        expected[agent] = hit(node, links, agent)
        wait_for(migrated, sum(expected.values()))
        ingestion.signal(signal.SIGSTOP)  # so that we see what is missing before it is made again
        lazy.stop("immediate")
        lazy.start()
        lost += sum(expected.values()) - total(migrated)
        ingestion.signal(signal.SIGCONT)
        expected[agent] += hit(node, links, agent)
        wait_for(migrated, sum(expected.values()), 30)
    assert lost > 0, "nothing was lost, and so nothing shown"
    time.sleep(1)  # for what comes twice
    assert agents(migrated) == expected
    opens, clicks = counted(migrated)
    each = sum(expected.values()) // len(links) // 2
    assert {opens[token] for token in links} == {clicks[token] for token in links} == {each}


@pytest.mark.parametrize("setup", [False], indirect=True, ids=["draining"])
def test_what_a_fall_takes_back_comes_again_though_nothing_new_comes(migrated: str, lazy: PostgreSQL, setup) -> None:
    """No hit tells the ingester to look. (One that ships, and has nothing to send, asks the database once a minute.)"""
    node, ingestion, links = setup
    hits = hit(node, links, "Agent/1")
    [worker] = node.workers()
    os.kill(worker, signal.SIGKILL)
    wait_for(migrated, hits)
    until(lambda: node.workers() not in ([], [worker]) and node.ingesters() and node.get_or_none("/health"), 20)
    for _ in range(5):  # once in fifty times PostgreSQL syncs just then
        hits += hit(node, links, "Agent/2")
        wait_for(migrated, hits)
        ingestion.signal(signal.SIGSTOP)
        lazy.stop("immediate")
        lazy.start()
        lost = hits - total(migrated)
        began = time.monotonic()
        ingestion.signal(signal.SIGCONT)
        if lost:
            break
    assert lost > 0
    wait_for(migrated, hits, 30)
    print(f"caught up in {time.monotonic() - began:.1f} s")
    assert agents(migrated) == {"Agent/1": 2 * len(links), "Agent/2": hits - 2 * len(links)}


def test_a_database_that_is_put_back_to_a_copy_catches_up(migrated: str, lazy: PostgreSQL, setup) -> None:
    node, _, links = setup
    pixels, clicks = Hits(node.port, [*links], rate=150), Hits(node.port, [*links], rate=150, links=links)
    with pixels, clicks:
        pixels.go_on()
        lazy.stop()
        subprocess.run(["cp", "-a", lazy.folder / "db", lazy.folder / "copy"], check=True)
        lazy.start()
        pixels.go_on()
        [worker] = node.workers()
        os.kill(worker, signal.SIGKILL)  # so that a segment is done
        pixels.go_on()
        wait_for(migrated, pixels.count + clicks.count - 100)
        before = total(migrated)
        lazy.stop("immediate")
        shutil.rmtree(lazy.folder / "db")
        (lazy.folder / "copy").rename(lazy.folder / "db")
        lazy.start()
        pixels.go_on()
    wait_for(migrated, max(before, pixels.count + clicks.count), 120)
    time.sleep(1)
    for hits, found in zip((pixels, clicks), counted(migrated), strict=True):
        assert hits.refused == []
        for token in links:
            assert hits.answered[token] <= found[token] <= hits.answered[token] + hits.unanswered[token], token
