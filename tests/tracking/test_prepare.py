"""What happens to the database before anything is served: `python -m tracking.prepare` as every start does it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.tracking.running import RunningServer
from tracking import keyfile
from tracking.conf import PROJECT_ROOT
from trackingsite.sqlite import locks

pytestmark = pytest.mark.server

Finished = subprocess.CompletedProcess[str]
PREPARE = [sys.executable, "-m", "tracking.prepare"]


def run(folder: Path, *arguments: str, command: list[str] | None = None, **settings: str) -> Finished:
    environment = RunningServer(folder, **settings).environment()
    command = [*(command or PREPARE), *arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, timeout=60)


def refused(finished: Finished) -> str:
    """The one line that a refusal is."""
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1
    return finished.stderr


def ask(database: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(question).fetchall()
        connection.commit()
    return rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database as it is after a first start."""
    folder = tmp_path_factory.mktemp("made")
    finished = run(folder)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    return folder


@pytest.fixture
def current(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def older(current: Path) -> Path:
    """As if the program had learned about sessions since."""
    ask(current / "tracking.db", "DROP TABLE django_session")
    ask(current / "tracking.db", "DELETE FROM django_migrations WHERE app = 'sessions'")
    return current


def copies(folder: Path) -> list[Path]:
    return list(folder.glob("tracking.db.before-*"))


# -- SQLite


def test_a_missing_database_is_made_with_its_keys(made: Path) -> None:
    assert ask(made / "tracking.db", "SELECT count(*) FROM messages") == [(0,)]
    assert ask(made / "tracking.db", "PRAGMA journal_mode") == [("wal",)]
    keys = keyfile.read(made / "tracking.db-keys")
    assert [(key.key,) for key in keys.link_keys] == ask(made / "tracking.db", "SELECT key FROM link_keys")
    assert (made / "tracking.db-keys").stat().st_mode & 0o777 == 0o600


def test_an_empty_file_is_made_a_database(tmp_path: Path) -> None:
    (tmp_path / "tracking.db").touch()
    assert run(tmp_path).returncode == 0
    assert ask(tmp_path / "tracking.db", "SELECT count(*) FROM campaigns") == [(0,)]


def test_many_processes_may_start_at_once(tmp_path: Path) -> None:
    environment = RunningServer(tmp_path).environment()
    started = [subprocess.Popen(PREPARE, cwd=PROJECT_ROOT, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in started] == [("", 0)] * 4
    assert copies(tmp_path) == []


def test_a_current_database_is_left_alone(current: Path) -> None:
    before = ask(current / "tracking.db", "SELECT count(*), max(applied) FROM django_migrations")
    assert run(current).returncode == 0
    assert ask(current / "tracking.db", "SELECT count(*), max(applied) FROM django_migrations") == before
    assert copies(current) == []


@pytest.mark.parametrize(("before", "after"), [(0o644, 0o640), (0o660, 0o660)])
def test_a_database_that_everybody_may_read_is_closed_to_them(current: Path, before: int, after: int) -> None:
    (current / "tracking.db").chmod(before)
    assert run(current).returncode == 0
    assert (current / "tracking.db").stat().st_mode & 0o777 == after


def test_a_first_user_may_be_made_before_the_first_start(tmp_path: Path) -> None:
    ada = ["createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.com"]
    finished = run(tmp_path, *ada, command=[sys.executable, "manage.py"], DJANGO_SUPERUSER_PASSWORD="correct horse")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert ask(tmp_path / "tracking.db", "SELECT username FROM auth_user") == [("ada",)]
    assert (tmp_path / "tracking.db").stat().st_mode & 0o777 == 0o600


def test_a_first_user_of_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "tracking.db").write_text("Dear diary, " * 100)
    assert "no SQLite database" in refused(run(tmp_path, "createsuperuser", command=[sys.executable, "manage.py"]))
    assert run(tmp_path, "createsuperuser", "--help", command=[sys.executable, "manage.py"]).returncode == 0


def test_an_older_database_is_copied_and_then_migrated(older: Path) -> None:
    ask(older / "tracking.db", "INSERT INTO campaigns (name, tags, metadata, created_at) VALUES ('kept', '[]', '{}', 1)")
    finished = run(older)
    assert finished.returncode == 0
    [copy] = copies(older)
    assert copy.name in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert ask(older / "tracking.db", "SELECT count(*) FROM django_session") == [(0,)]
    for database in (older / "tracking.db", copy):
        assert ask(database, "SELECT name FROM campaigns") == [("kept",)]
    with pytest.raises(sqlite3.OperationalError, match="django_session"):
        ask(copy, "SELECT * FROM django_session")


def test_an_older_database_in_use_is_refused_untouched(older: Path) -> None:
    user = locks.register_user(older / "tracking.db")
    assert user is not None
    try:
        assert "in use by another process" in refused(run(older))
    finally:
        os.close(user)
    assert copies(older) == []
    assert ask(older / "tracking.db", "SELECT count(*) FROM django_migrations WHERE app = 'sessions'") == [(0,)]


def test_a_database_of_newer_code_is_refused(current: Path) -> None:
    ask(current / "tracking.db", "INSERT INTO django_migrations (app, name, applied) VALUES ('campaigns', '9000_later', 0)")
    assert "campaigns.9000_later" in refused(run(current))


def test_the_database_of_something_else_is_refused_untouched(tmp_path: Path) -> None:
    ask(tmp_path / "tracking.db", "CREATE TABLE albums (title)")
    assert "albums" in refused(run(tmp_path))
    assert ask(tmp_path / "tracking.db", "SELECT name FROM sqlite_master") == [("albums",)]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tracking.db").write_text("Dear diary, " * 100)
    assert "no SQLite database" in refused(run(tmp_path))
    assert (tmp_path / "tracking.db").read_text().startswith("Dear diary")


def test_looking_alone_makes_nothing(tmp_path: Path) -> None:
    script = "import sys; from tracking.prepare import NotReady, start\ntry: start(migrate=False)\nexcept NotReady as e: sys.exit(str(e))"
    assert "not migrated" in refused(run(tmp_path, command=[sys.executable, "-c", script]))
    assert not (tmp_path / "tracking.db").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everything, and setpriv is missing")
@pytest.mark.parametrize("locked", ["folder", "file"])
def test_what_cannot_be_written_is_said_in_one_line(current: Path, locked: str) -> None:
    plain_user = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    (current if locked == "folder" else current / "tracking.db").chmod(0o555 if locked == "folder" else 0o444)
    try:
        line = refused(run(current, command=[*plain_user, *PREPARE]))
    finally:
        current.chmod(0o755)
    assert "cannot be written" in line
    assert str(current) in line


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file" in refused(run(tmp_path, TRACKING_DB_PATH=str(tmp_path / "file" / "tracking.db")))


def test_a_broken_keys_file_is_said_in_one_line(current: Path) -> None:
    (current / "tracking.db-keys").write_text("{}")
    assert "tracking.db-keys" in refused(run(current, "--to-serve"))


def test_a_wrong_setting_is_said_in_one_line(tmp_path: Path) -> None:
    assert "TRACKING_STORE_IP: must be one of full, truncated, none" in refused(run(tmp_path, TRACKING_STORE_IP="half"))


# -- PostgreSQL


def postgresql(folder: Path, url: str) -> dict[str, str]:
    return {"TRACKING_DATABASE_URL": url, "TRACKING_SECRET_KEY": "x" * 50, "TRACKING_DATA_DIR": str(folder)}


def test_postgresql_away_is_said_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="needs pip install -e '.[postgres]'")
    assert "does not answer" in refused(run(tmp_path, **postgresql(tmp_path, "postgresql://nobody@127.0.0.1:1/none")))


def test_a_server_that_has_its_keys_starts_without_its_database(current: Path) -> None:
    pytest.importorskip("psycopg", reason="needs pip install -e '.[postgres]'")
    (current / "tracking.db-keys").rename(current / "keys")
    away = postgresql(current, "postgresql://nobody@127.0.0.1:1/none")
    finished = run(current, "--to-serve", **away)
    assert finished.returncode == 0
    assert "served meanwhile" in finished.stderr
    assert run(current, **away).returncode == 1


@pytest.mark.skipif("TRACKING_TEST_DATABASE_URL" not in os.environ, reason="needs TRACKING_TEST_DATABASE_URL")
def test_an_unmigrated_postgresql_is_refused_with_the_command(tmp_path: Path) -> None:
    empty = os.environ["TRACKING_TEST_DATABASE_URL"].rpartition("/")[0] + "/postgres"
    assert "manage.py migrate" in refused(run(tmp_path, **postgresql(tmp_path, empty)))
