"""The server as people start it: what it prints, how it stops, what it survives."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.tracking.running import MODULE, RunningServer, is_free, is_running, read_response, until
from tracking.conf import PROJECT_ROOT

pytestmark = pytest.mark.server

#: The documentation's own line, on a port of the test's.
GUNICORN = [sys.executable, "-m", "gunicorn", "-w", "2", "-b", "127.0.0.1:{port}", "tracking.server:create_tracking_app()"]
UVICORN = [sys.executable, "-m", "uvicorn", "--factory", "--port", "{port}", "tracking.server:create_tracking_app"]
STARTS = {"module": MODULE, "gunicorn": GUNICORN}


def three_lines(where: str) -> str:
    return f"Starting Email Tracking Server on {where}\nDashboard: http://{where}/dashboard\nHealth Check: http://{where}/health\n"


def refused(server: RunningServer) -> str:
    """The line of a server that does not start."""
    server.start(wait=False)
    until(lambda: server.exit_code is not None, 30)
    assert server.exit_code == 1
    lines = [line for line in server.log.splitlines() if not three_lines("").startswith(line.split(" on ")[0])]
    refusals = [line for line in lines if line.startswith("Cannot start: ")]
    assert len(refusals) == 1
    assert "Traceback" not in server.log
    return refusals[0]


# -- starting


@pytest.mark.parametrize(("host", "where"), [("0.0.0.0", "0.0.0.0:{}"), ("::1", "[::1]:{}")])
def test_three_lines_are_printed_at_once_even_into_a_file(tmp_path: Path, host: str, where: str) -> None:
    server = RunningServer(tmp_path, TRACKING_HOST=host)
    with server.start(wait=False):
        until(lambda: server.log.count("\n") == 3)
        assert not server.database.exists()  # that early
        assert server.log == three_lines(where.format(server.port))
        with socket.create_connection((host, server.port), timeout=20) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")  # who comes early is served too
            assert read_response(connection).body == b'{"status":"healthy"}'
        assert server.stop() == 0
        assert server.log == three_lines(where.format(server.port))


@pytest.mark.parametrize("command", STARTS.values(), ids=STARTS)
def test_a_wrong_setting_is_one_line(tmp_path: Path, command: list[str]) -> None:
    assert "TRACKING_DEBUG: must be True or False" in refused(RunningServer(tmp_path, command, TRACKING_DEBUG="perhaps"))
    assert not (tmp_path / "tracking.db").exists()


def test_a_wrong_value_in_a_dotenv_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TRACKING_PORT=a lot\n")
    environment = {name: value for name, value in RunningServer(tmp_path).environment().items() if name != "TRACKING_PORT"}
    environment["PYTHONPATH"] = str(PROJECT_ROOT)
    finished = subprocess.run(MODULE, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr == "Cannot start: TRACKING_PORT: must be a number from 1 to 65535, not 'a lot'\n"


@pytest.mark.parametrize("command", STARTS.values(), ids=STARTS)
def test_a_database_that_cannot_be_used_is_one_line(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "tracking.db").write_text("no database " * 100)
    assert "no SQLite database" in refused(RunningServer(tmp_path, command))


def test_a_port_in_use_is_one_line_and_nothing_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = RunningServer(tmp_path, TRACKING_PORT=str(port))
        line = refused(server)
    assert line.startswith(f"Cannot start: port {port} is in use")
    assert f"TRACKING_PORT={port + 1}" in line
    assert server.log == line + "\n"
    assert [path.name for path in tmp_path.iterdir()] == ["server.log"]


def test_a_host_of_another_machine_is_one_line(tmp_path: Path) -> None:
    assert "TRACKING_HOST: 192.0.2.1 is no address of this machine" in refused(RunningServer(tmp_path, TRACKING_HOST="192.0.2.1"))


def test_arguments_are_answered_with_the_usage(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*MODULE, *arguments], cwd=PROJECT_ROOT, capture_output=True, text=True)

    assert "TRACKING_PORT" in run("--help").stdout
    wrong = run("--port", "80")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("usage: ")


# -- serving


def test_a_second_server_on_the_same_database_works_and_there_is_one_ingester(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as first, RunningServer(tmp_path) as second:
        assert first.get("/health").status == second.get("/health").status == 200
        until(lambda: first.ingesters() or second.ingesters())
        assert len(first.ingesters() + second.ingesters()) == 1


def test_an_older_database_in_use_by_a_server_is_refused(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as first:
        assert first.get("/api/campaigns").status == 200  # a connection is open
        with closing(sqlite3.connect(first.database)) as connection:
            connection.execute("DROP TABLE django_session")
            connection.execute("DELETE FROM django_migrations WHERE app = 'sessions'")
            connection.commit()
        other = tmp_path / "other"
        other.mkdir()
        assert "in use by another process" in refused(RunningServer(other, TRACKING_DB_PATH=str(first.database)))
        assert first.get("/health").status == 200


@pytest.mark.parametrize("command", [*STARTS.values(), UVICORN], ids=[*STARTS, "uvicorn"])
def test_a_chunked_post_reaches_the_api(tmp_path: Path, command: list[str]) -> None:
    with RunningServer(tmp_path, command) as server:
        reply = server.request("POST", "/api/campaigns", iter([b'{"name": ', b'"Chunked"}']), {"Content-Type": "application/json"})
        assert (reply.status, reply.json()["name"]) == (201, "Chunked")


def test_debug_reloads_changed_code_and_shows_no_debug_page(tmp_path: Path) -> None:
    source = PROJECT_ROOT / "tracking" / "apps.py"
    changed = source.stat()
    with RunningServer(tmp_path, TRACKING_DEBUG="True") as server:
        reply = server.get("/no-such-page", {"Accept": "text/html"})
        assert reply.status in (403, 404)
        assert "DEBUG = True" not in reply.text
        assert "urlpatterns" not in reply.text.lower()
        [before] = server.workers()
        time.sleep(1.2)  # the reloader has looked once, and knows what is old
        os.utime(source)
        try:
            until(lambda: server.workers() not in ([before], []), 15)
        finally:
            os.utime(source, ns=(changed.st_atime_ns, changed.st_mtime_ns))
        assert server.get("/health").status == 200
        assert server.stop() == 0


# -- stopping


@pytest.mark.parametrize(
    ("command", "number"), [(MODULE, signal.SIGTERM), (MODULE, signal.SIGINT), (GUNICORN, signal.SIGTERM)], ids=["term", "int", "gunicorn"]
)
def test_it_stops_cleanly_within_seconds(tmp_path: Path, command: list[str], number: int) -> None:
    with RunningServer(tmp_path, command, workers=2) as server:
        until(lambda: server.ingesters())
        family = server.processes()
        assert len(family) == 4
        with server.connect() as kept:
            kept.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_response(kept).status == 200
            started = time.monotonic()
            assert server.stop(number) == 0
            assert time.monotonic() - started < 8
        assert not any(is_running(pid) for pid in family)
        assert is_free(server.port)
        assert not Path(f"{server.database}-wal").exists() or Path(f"{server.database}-wal").stat().st_size == 0
        assert "Traceback" not in server.log
        assert server.log == (three_lines(f"127.0.0.1:{server.port}") if command is MODULE else "")


@pytest.mark.parametrize("command", STARTS.values(), ids=STARTS)
def test_kill_9_of_the_master_leaves_nothing_and_frees_the_port(tmp_path: Path, command: list[str]) -> None:
    with RunningServer(tmp_path, command, workers=2) as server:
        until(lambda: server.ingesters())
        family = server.processes()
        server.kill()
        until(lambda: is_free(server.port), 3)
        until(lambda: not any(is_running(pid) for pid in family))


def test_an_ingester_lives_on_whatever_is_killed(tmp_path: Path) -> None:
    with RunningServer(tmp_path, workers=2) as server:
        until(lambda: server.ingesters())
        [first] = server.ingesters()
        os.kill(first, signal.SIGKILL)
        until(lambda: server.ingesters() not in ([], [first]))
        assert server.log.count("the ingester ended (-9)") == 1

        [second] = server.ingesters()
        parent = int(Path(f"/proc/{second}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        until(lambda: not is_running(second))  # it read the end of its input
        until(lambda: server.ingesters() not in ([], [second]))
        assert server.get("/health").status == 200
        until(lambda: len(server.workers()) == 2)


def test_a_request_in_hand_is_finished_before_it_stops(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server, server.connect() as connection:
        connection.sendall(
            b"POST /api/campaigns HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
        )
        assert server.get("/health").status == 200  # the other request has been read
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        until(lambda: is_free(server.port))
        connection.sendall(b'{"name":"last"}')
        assert read_response(connection).status == 201
        assert server.process.wait(15) == 0
