"""Draining nginx's logs; a real nginx is in `tests/tracking/test_nginx.py`."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from campaigns.events import EventKind, now_ms
from campaigns.models import Campaign, Event, Message
from tests.tracking.conftest import Ran
from tests.tracking.nginx import line
from tests.tracking.running import until
from tracking.ingest import dead_letters, worker
from tracking.ingest import drain as drain_module
from tracking.ingest.drain import drain, forget_positions
from tracking.ingest.nginx_logs import SEEN, drain_logs, drain_logs_once, pending_logs, tidy_logs
from tracking.ingest.status import ingest_status
from tracking.models import DeadLetter, SpoolPosition
from tracking.readiness import readiness
from tracking.spool.lines import hit_line, told
from tracking.spool.nginx_log import GONE_SECONDS, TORN_SECONDS
from tracking.spool.writer import process_writer

pytestmark = pytest.mark.django_db


class Log:
    """What nginx does with its log, and logrotate with nginx's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.number = folder, folder / "tracking.log", 0

    def write(self, *lines: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(lines))

    def hit(self, times: int = 1, **what: object) -> None:
        for _ in range(times):
            self.number += 1
            self.write(line(connection=self.number, **what) + b"\n")

    def rotate(self) -> Path:
        """Rename, as logrotate does: the younger a log the lower its number."""
        for older in sorted(self.folder.glob("tracking.log.[0-9]"), reverse=True):
            older.rename(older.with_suffix(f".{int(older.suffix[1:]) + 1}"))
        return self.path.rename(self.folder / "tracking.log.1")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    folder = tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setitem(settings.CONF.__dict__, "nginx_logs", folder)
    return Log(folder)


def opens(message: Message) -> int:
    message.refresh_from_db()
    assert message.open_count == Event.objects.count()
    return message.open_count


def test_hits_of_a_log_are_applied_once_however_often_it_is_drained(log: Log, message: Message) -> None:
    log.hit(3)
    assert pending_logs() == log.path.stat().st_size
    assert drain_logs() == 0
    log.hit()
    forget_positions()
    assert drain_logs() == 0
    assert drain_logs() == pending_logs() == 0
    assert opens(message) == 4


def test_nothing_is_read_without_the_setting(db: None) -> None:
    assert (pending_logs(), drain_logs(), drain_logs_once()) == (0, 0, False)
    tidy_logs()
    assert not (settings.CONF.spool_dir / SEEN).exists()


def test_an_event_from_the_log_is_like_one_from_our_own_server(log: Log, message: Message) -> None:
    agent, headers = "Müller/1.0 \U0001f600".encode(), {"accept": b"image/*", "referer": b"\xff"}
    log.hit(agent=agent, headers=headers, method=b"HEAD", at=now_ms())
    drain_logs()
    kept = {name: value.decode("latin-1") for name, value in headers.items()}
    ours = hit_line(EventKind.OPENED, "uuid-token", now_ms(), ip="192.0.2.1", told=told("HEAD", agent.decode("latin-1"), kept))
    process_writer(settings.CONF.spool_dir).append(ours)
    drain()
    one, two = Event.objects.order_by("id")
    assert one.user_agent_id == two.user_agent_id is not None
    assert (one.ip, one.kind, one.source) == (two.ip, two.kind, two.source)


def test_a_read_waits_for_no_log_and_the_ingester_takes_it(log: Log, message: Message) -> None:
    log.hit()
    assert drain(0.25) == 0
    assert opens(message) == 0
    assert drain_logs_once()
    assert not drain_logs_once()
    assert opens(message) == 1


def test_rotation_loses_and_doubles_nothing(log: Log, message: Message) -> None:
    log.hit(2)
    drain_logs()
    log.hit()
    old = log.rotate()
    with old.open("ab") as file:  # nginx has not opened the new one yet
        file.write(line(connection=1000) + b"\n")
    log.hit(2)
    drain_logs()
    assert opens(message) == 6
    log.rotate()
    log.rotate() if log.path.exists() else log.hit()
    (log.folder / "tracking.log.3.gz").write_bytes(gzip.compress((log.folder / "tracking.log.2").read_bytes()))
    (log.folder / "tracking.log.2").unlink()
    forget_positions()
    assert drain_logs() == 0
    assert opens(message) == 7


def test_a_log_that_is_unpacked_goes_on_where_it_was(log: Log, message: Message) -> None:
    log.hit(2)
    drain_logs()
    log.hit(2)
    packed = gzip.compress(log.rotate().read_bytes())
    (log.folder / "tracking.log.1").unlink()
    drain_logs()
    tidy_logs()
    assert opens(message) == 2
    (log.folder / "tracking.log.9").write_bytes(gzip.decompress(packed))
    forget_positions()
    drain_logs()
    assert opens(message) == 4


def test_copytruncate_doubles_nothing(log: Log, message: Message) -> None:
    log.hit(3)
    drain_logs()
    log.hit()
    shutil.copy(log.path, log.folder / "tracking.log.1")
    assert pending_logs() == log.path.stat().st_size - SpoolPosition.objects.get().position
    os.truncate(log.path, 0)
    drain_logs()
    assert opens(message) == 4
    log.hit(2)
    drain_logs()
    assert opens(message) == 6


def test_garbage_goes_to_the_dead_letters_and_the_hits_around_it_are_applied(log: Log, message: Message) -> None:
    log.hit()
    log.write(b"garbage\n", b"\0" * 300 + b"\n", b"x" * 1_000_000 + b"\n", line()[:100] + line() + b"\n", b'{"nginx":1}\n')
    log.hit()
    assert drain_logs() == 0
    assert opens(message) == 2
    assert DeadLetter.objects.count() == 5
    assert dead_letters.replay(dead_letters.letters()) == dead_letters.Replayed(failed=5)


def test_a_torn_line_goes_to_the_dead_letters_when_nobody_finishes_it(log: Log, message: Message) -> None:
    log.hit()
    log.write(line()[:70])
    assert (drain_logs(), drain_logs_once()) == (70, False)
    os.utime(log.path, (time.time() - TORN_SECONDS - 1,) * 2)
    assert drain_logs() == 0
    assert bytes(DeadLetter.objects.get().line) == line()[:70]
    log.hit()
    assert drain_logs() == 0
    assert opens(message) == 2


def test_tokens_that_no_message_has_are_counted(log: Log, message: Message) -> None:
    log.hit(token="nobody")
    drain_logs()
    assert ingest_status()["unknown_tokens"] == 1


def test_status_and_readiness_tell_of_hits_that_wait_in_logs(log: Log, message: Message) -> None:
    log.hit(at=now_ms() - 90_000)
    status = ingest_status()
    assert (status["pending"], status["segments"]) == (log.path.stat().st_size, 1)
    assert 89 < status["lag_seconds"] < 200
    assert readiness().word == "degraded"
    drain_logs()
    assert (ingest_status()["pending"], readiness().word) == (0, "ready")


def test_the_command_takes_in_logs_and_counts_what_was_new(log: Log, message: Message, cli: Callable[..., Ran]) -> None:
    log.hit(2)
    drain_logs()
    forget_positions()
    log.hit(at=1)
    process_writer(settings.CONF.spool_dir).append(hit_line(EventKind.OPENED, "uuid-token", now_ms()))
    new = len(line(at=1, connection=3)) + 1 + sum(path.stat().st_size for path in settings.CONF.spool_dir.glob("*.jsonl"))
    assert cli("email-tracking-cli ingest drain --json").json == {"applied": new, "pending": 0}
    assert opens(message) == 4
    assert "Nothing is pending" in cli("email-tracking-cli ingest drain").out


@pytest.mark.parametrize("error", [OperationalError, None])
def test_the_ingester_drains_logs_until_it_stops_and_keeps_going_without_the_database(
    log: Log, message: Message, monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None
) -> None:
    really, failures = drain_module.apply, [error] * 2 if error else []
    monkeypatch.setattr(worker, "RETRY_SECONDS", (0.01, 0.01))

    class Stop(threading.Event):
        turns = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.turns += 1
            log.hit()
            if self.turns == 5:
                self.set()
            return True

    def apply(events):
        if failures:
            raise failures.pop()("away")
        return really(events)

    monkeypatch.setattr(drain_module, "apply", apply)
    monkeypatch.setattr(connection, "close", lambda: None)
    stop = Stop()
    worker.run(stop)
    assert opens(message) == stop.turns >= 5, "it may have rested as well"


# -- positions


def test_a_restored_database_catches_up_from_logs_that_are_still_there(log: Log, message: Message) -> None:
    log.hit()
    drain_logs()
    backup = SpoolPosition.objects.get().position
    log.hit()
    drain_logs()
    Event.objects.order_by("-id")[:1].get().delete()  # the copy does not have the second hit, nor the position after it
    SpoolPosition.objects.update(position=backup)
    assert drain_logs() == 0, "this process thinks that it has them"
    tidy_logs()
    drain_logs()
    assert Event.objects.count() == 2


def test_positions_of_logs_that_are_long_gone_are_dropped_and_only_those_of_this_machine(log: Log, message: Message) -> None:
    log.hit()
    drain_logs()
    name = SpoolPosition.objects.get().segment
    SpoolPosition.objects.create(segment="nginx-of-another-machine", position=5)
    process_writer(settings.CONF.spool_dir).append(hit_line(EventKind.OPENED, "uuid-token", now_ms()))
    drain()
    tidy_logs()
    seen = settings.CONF.spool_dir / SEEN / name
    os.utime(seen, (time.time() - GONE_SECONDS - 60,) * 2)
    tidy_logs()
    assert SpoolPosition.objects.count() == 3, "it is still there"
    log.path.unlink()
    tidy_logs()
    assert SpoolPosition.objects.count() == 3, "perhaps it comes back"
    os.utime(seen, (time.time() - GONE_SECONDS - 60,) * 2)
    tidy_logs()
    assert not seen.exists()
    assert SpoolPosition.objects.filter(segment="nginx-of-another-machine").exists()
    assert SpoolPosition.objects.count() == 2


def test_a_folder_that_cannot_be_read_for_once_drops_no_position(log: Log, message: Message) -> None:
    log.hit()
    drain_logs()
    tidy_logs()
    log.folder.rename(log.folder.with_name("away"))
    assert drain_logs() == 0
    tidy_logs()
    log.folder.with_name("away").rename(log.folder)
    forget_positions()
    drain_logs()
    assert opens(message) == 1


DRAINER = """
import django
django.setup()
from django.db import OperationalError
from tracking.ingest.drain import forget_positions
from tracking.ingest.nginx_logs import drain_logs
while True:
    forget_positions()
    try:
        drain_logs()
    except OperationalError:
        pass
"""


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_drainers_killed_at_any_moment_apply_each_hit_once_while_logs_are_rotated(log: Log, campaign: Campaign, message: Message) -> None:
    database = str(connection.settings_dict["NAME"])
    environment = {**os.environ, "TRACKING_NGINX_LOGS": str(log.folder)}
    if connection.vendor == "postgresql":
        environment["TRACKING_DATABASE_URL"] = os.environ["TRACKING_DATABASE_URL"].rsplit("/", 1)[0] + f"/{database}"
    else:
        environment["TRACKING_DB_PATH"] = database

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", DRAINER], env=environment)

    sent, crew = 0, [start() for _ in range(2)]
    try:
        for round_ in range(8):
            applied = Event.objects.count()
            for _ in range(20):
                log.hit(20, at=now_ms())
                sent += 20
                time.sleep(0.005)
            until(lambda applied=applied: Event.objects.count() > applied, 30)
            victim = crew[round_ % 2]
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            crew[round_ % 2] = start()
            log.rotate()
    finally:
        for process in crew:
            process.kill()
            process.wait()
    forget_positions()
    assert drain_logs() == 0
    assert opens(message) == sent
    assert not DeadLetter.objects.exists()
