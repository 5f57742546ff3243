"""What the service keeps for itself, and shares with root's commands."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.running import MODULE, RunningServer, until
from tracking import keyfile, private
from tracking.conf import PROJECT_ROOT

SERVICE, STRANGER = 65_534, 65_533  # users
PACKAGES = {"PYTHONPATH": sysconfig.get_paths()["purelib"]}


#: A process that loses hits and ends before it has said so.
LOSING = "from pathlib import Path; from tracking.spool.writer import *; count_loss(process_counters(Path({spool!r})), 3)"


def becoming(user: int) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]


def python_of_service() -> str | None:
    """A Python that another user may start, and read the project and its packages with; None where this is not root."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return None
    looking = "import subprocess, sys, django, orjson, tracking.conf; subprocess.run([sys.executable, '-c', ''], check=True)"
    for python in (sys.executable, "/usr/bin/python3"):
        command = [*becoming(SERVICE), python, "-c", looking]
        if subprocess.run(command, cwd=PROJECT_ROOT, env={**os.environ, **PACKAGES}, capture_output=True).returncode == 0:
            return python
    return None


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def anybodys_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("anybodys_umask")
def test_folders_and_files_are_made_for_one_user(tmp_path: Path) -> None:
    private.make_private_folder(tmp_path / "above" / "locks")
    assert mode(tmp_path / "above" / "locks") == 0o700
    for name in ("made", "made", "opened"):
        os.close(private.open_private_file(tmp_path / name))
        private.make_private_file(tmp_path / name)
        assert mode(tmp_path / name) == 0o600
    private.make_private_file(tmp_path / "untouched")
    assert mode(tmp_path / "untouched") == 0o600


def test_what_older_versions_left_open_is_closed_and_a_groups_rights_to_a_file_stay(tmp_path: Path) -> None:
    folder, file = tmp_path / "locks", tmp_path / "tracking.db"
    folder.mkdir()
    folder.chmod(0o755)
    private.make_private_folder(folder)
    assert mode(folder) == 0o700
    for before, after in ((0o644, 0o640), (0o664, 0o660), (0o640, 0o640), (0o600, 0o600)):
        file.touch()
        file.chmod(before)
        private.close_to_others(file)
        assert mode(file) == after
    private.close_to_others(tmp_path / "none")
    for name in ("copied", "copied-wal", "copied-shm", "copied-other"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    private.close_to_others(tmp_path / "copied")
    assert [mode(tmp_path / f"copied{end}") for end in ("", "-wal", "-shm", "-other")] == [0o640, 0o640, 0o640, 0o644]


def test_a_file_in_the_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        private.make_private_folder(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        private.make_private_folder(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes things for others")
def test_what_root_makes_belongs_to_the_owner_of_the_folder_and_nothing_else_does(tmp_path: Path) -> None:
    os.chown(tmp_path, SERVICE, SERVICE)
    private.make_private_folder(tmp_path / "above" / "locks")
    os.close(private.open_private_file(tmp_path / "above" / "locks" / "writers"))
    for path in (tmp_path / "above", *(tmp_path / "above").rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == (SERVICE, SERVICE), path
    secret, folder = tmp_path.parent / f"{tmp_path.name}-secret", tmp_path.parent / f"{tmp_path.name}-folder"
    secret.touch(0o600)
    folder.mkdir()
    folder.chmod(0o755)
    (tmp_path / "file").symlink_to(secret)
    (tmp_path / "link").symlink_to(folder)
    os.close(private.open_private_file(tmp_path / "file"))
    private.make_private_file(tmp_path / "file")
    private.make_private_folder(tmp_path / "link")
    assert mode(folder) == 0o755
    assert (secret.stat().st_uid, folder.stat().st_uid) == (0, 0)


# -- the service and root's commands


@pytest.fixture
def service() -> Iterator[RunningServer]:
    """A server to start, of a user who owns its folder. Everybody may look into that. (pytest's own are closed to others.)"""
    python = python_of_service()
    if python is None:
        pytest.skip("only root can start programs as others")
    with tempfile.TemporaryDirectory(prefix="tracking-private-") as name:
        os.chown(name, SERVICE, SERVICE)
        Path(name).chmod(0o755)
        yield RunningServer(Path(name), [*becoming(SERVICE), python, *MODULE[1:]], **PACKAGES)


def root(server: RunningServer, *command: str) -> str:
    ran = subprocess.run([sys.executable, *command], env=server.environment(), cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def cli(server: RunningServer, *arguments: str) -> str:
    return root(server, "-m", "tracking.cli.main", *arguments)


def works(server: RunningServer, key: str) -> None:
    bearer = {"Authorization": f"Bearer {key}"}
    made = server.post("/api/messages", {"recipient_email": "user@example.com"}, bearer)
    assert made.status == 201, made.text
    token = made.json()["tracking_token"]
    assert server.get(f"/track/pixel/{token}").status == 200
    assert server.get(f"/api/messages/{made.json()['id']}", bearer).json()["open_count"] == 1
    link = root(server, "-c", f"from tracking import Database; print(Database().link_url({token!r}, 'https://example.com/'))")
    assert server.get(link[link.index("/track/") :]).status == 302
    until(server.ingesters)


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in folder.rglob("*") if path.name != "server.log"}


@pytest.mark.server
@pytest.mark.slow
def test_the_service_works_with_what_roots_command_made_first(service: RunningServer) -> None:
    root(service, "manage.py", "migrate")
    key = cli(service, "key", "create", "--name", "first")
    with service:
        works(service, key)
        assert owners(service.folder) == {SERVICE}
        assert "Traceback" not in service.log


@pytest.mark.server
@pytest.mark.slow
def test_the_service_works_with_the_log_of_a_root_process_that_died(service: RunningServer) -> None:
    key = cli(service, "key", "create", "--name", "first")
    root(service, "-c", "import os; from tracking import Database; Database().create_campaign('kept'); os._exit(0)")
    assert (service.folder / "tracking.db-wal").stat().st_size > 0
    root(service, "manage.py", "createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.com")
    assert owners(service.folder) == {SERVICE}
    with service:
        works(service, key)


@pytest.mark.server
@pytest.mark.slow
def test_the_service_goes_on_after_roots_commands(service: RunningServer) -> None:
    with service:
        key = cli(service, "key", "create", "--name", "first")
        works(service, key)
        cli(service, "key", "rotate-links")
        works(service, key)
        assert len(keyfile.read(service.folder / "tracking.db-keys").link_keys) == 2
        assert service.stop() == 0
        cli(service, "key", "rotate-links")
        service.start()
        works(service, key)
        assert owners(service.folder) == {SERVICE}
        assert "Traceback" not in service.log


@pytest.mark.server
@pytest.mark.slow
def test_the_service_goes_on_with_a_spool_that_root_drained(service: RunningServer) -> None:
    with service:
        key = cli(service, "key", "create", "--name", "first")
        works(service, key)
        for pid in service.processes():
            os.kill(pid, signal.SIGKILL)
        assert service.process
        service.process.wait(10)
        root(service, "-c", LOSING.format(spool=str(service.spool)))
        assert '"dropped":3' in cli(service, "ingest", "status", "--json").replace(" ", "")
        cli(service, "ingest", "drain")  # puts what the killed worker wrote with the applied ones
        assert list((service.spool / "applied").iterdir())
        assert owners(service.folder) == {SERVICE}
        service.start()
        works(service, key)
        assert "Traceback" not in service.log


@pytest.mark.server
@pytest.mark.slow
def test_a_stranger_of_this_machine_can_hold_none_of_its_locks(service: RunningServer) -> None:
    with service:
        assert service.post("/api/campaigns", {"name": "made"}).status == 201
        until(service.ingesters)
        looking = (
            "import os, sys\nfor path in sys.argv[1:]:\n try: os.open(path, os.O_RDONLY)\n except OSError: continue\n else: print(path)"
        )
        everything = [str(path) for path in service.folder.rglob("*") if path.name != "server.log"]
        assert {"users", "writers", "preparing", "ingester.lock", "tracking.db-keys.lock"} <= {Path(path).name for path in everything}
        opened = subprocess.run(
            [*becoming(STRANGER), service.command[-3], "-c", looking, *everything], capture_output=True, text=True, check=True
        )
        assert opened.stdout == ""
        held = os.open(service.folder, os.O_RDONLY)  # the folder of the database is not ours alone, so nothing may wait for it
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            cli(service, "campaign", "list")
        finally:
            os.close(held)
