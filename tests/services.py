"""Services that tests start for themselves, because they stop them: a Redis and a PostgreSQL of their own, on free ports."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.browsing import missing
from tests.tracking.running import free_port, until


class RedisServer:
    """A Redis that keeps what it acknowledged, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        with (self.folder / "redis.log").open("ab") as log:
            command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
            self.process = subprocess.Popen([*command, "--appendonly", "yes", "--save", ""], stdout=log, stderr=log)
        until(self._answers, 10)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def _answers(self) -> bool:
        import redis

        with redis.Redis.from_url(self.url, socket_timeout=1, protocol=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class PostgreSQL:
    """A cluster of PostgreSQL that trusts this machine. It does not run as root, and gives up its port when it is stopped."""

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self.folder, self.programs, self.user, self.port = folder, programs, user, free_port()
        self._run("initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-D", str(folder / "db"))

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        self._run("pg_ctl", "-w", "-D", str(self.folder / "db"), "-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """`immediate` is what a lost power is to it."""
        with suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-w", "-D", str(self.folder / "db"), "-m", mode, "stop")

    def make_database(self, name: str) -> str:
        """The URL of an empty one."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([self.programs / program, *arguments], user=self.user, check=True, capture_output=True, cwd="/", timeout=60)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A running Redis, without anything in it."""
    try:
        import redis  # noqa: F401
    except ImportError:
        missing("the package redis (pip install -e '.[redis]')")
    if not shutil.which("redis-server"):
        missing("redis-server (apt-get install redis-server)")
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    """A running cluster. A test that stops it starts it again."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        missing("PostgreSQL's server programs (apt-get install postgresql)")
    user = None
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            missing("the user postgres, whom PostgreSQL runs as where we are root")
    folder = Path(tempfile.mkdtemp(prefix="tracking-pg-"))  # short: a socket lies in it
    if user:
        shutil.chown(folder, user)
    cluster = PostgreSQL(folder, programs[-1], user)
    cluster.start()
    yield cluster
    cluster.stop("immediate")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database_url(postgresql: PostgreSQL) -> str:
    """An empty database in it."""
    return postgresql.make_database(f"tracking_{secrets.token_hex(6)}")


__all__ = ["PostgreSQL", "RedisServer", "database_url", "postgresql", "redis_server"]
