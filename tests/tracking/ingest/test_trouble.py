"""What must not keep ingestion or a read from its work: odd things in the spool's folder, long lines, many readers, odd clocks."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction

from campaigns.apply import Applied
from campaigns.events import EventKind, TrackingEvent, now_ms
from campaigns.models import Event, Message
from tracking.ingest import drain as drain_module
from tracking.ingest.dead_letters import Replayed, letters, replay
from tracking.ingest.drain import drain, pending, tidy
from tracking.ingest.pace import Pace
from tracking.ingest.status import backlog
from tracking.models import DeadLetter, SpoolPosition
from tracking.spool import reader, writer
from tracking.spool.lines import hit_line, lost_line

pytestmark = pytest.mark.django_db

HOUR, DAY = 3_600_000, 86_400_000


def folder() -> Path:
    return settings.CONF.spool_dir


def append(*lines: bytes) -> None:
    assert writer.process_writer(folder()).append_many(lines)


def hit(at: int | None = None) -> bytes:
    return hit_line(EventKind.OPENED, "uuid-token", now_ms() if at is None else at)


def dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def link_to_a_segment(path: Path) -> None:
    target = path.parent.parent / "elsewhere"
    target.write_bytes(hit())
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (b"0-a.jsonl", dangling_link),
        (b"0-a.jsonl", link_to_a_segment),
        (b"0-a.jsonl", Path.mkdir),
        (b"0-a.jsonl", os.mkfifo),
        (b"0-\xff.jsonl", Path.touch),
        (b"0-%b.jsonl" % (b"a" * 100), Path.touch),
    ],
)
def test_what_is_no_segment_is_left_alone(message: Message, name: bytes, make) -> None:
    folder().mkdir(parents=True)
    odd = folder() / os.fsdecode(name)
    make(odd)
    append(hit())
    writer.close_writers()
    assert drain() == 0
    tidy()
    assert Event.objects.count() == 1
    assert backlog().segments == 0
    assert odd.is_symlink() or odd.exists()


def test_a_segment_that_cannot_be_put_away_keeps_nobody_from_the_others(message: Message, caplog: pytest.LogCaptureFixture) -> None:
    folder().mkdir(parents=True)
    (folder() / reader.APPLIED).touch()  # no folder: nothing can be moved into it
    for _ in range(2):
        append(hit())
        writer.close_writers()
    for _ in range(3):
        assert drain(20) == 0
    assert Event.objects.count() == 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"], "one for each, not one for each time"
    (folder() / reader.APPLIED).unlink()
    tidy()
    assert len(reader.applied_segments(folder())) == 2


def test_a_segment_that_cannot_be_read_waits_and_the_others_do_not(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    append(hit(), hit())
    writer.close_writers()
    append(hit())
    bad = max(reader.segments(folder()), key=lambda segment: segment.size)
    really = reader.read_lines

    def read_lines(path: Path, *rest: int) -> list[reader.Line]:
        if path == bad.path:
            raise OSError(5, "Input/output error")
        return really(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(reader, "read_lines", read_lines)
        assert drain() == bad.size
        assert Event.objects.count() == 1
    assert drain() == 0
    assert Event.objects.count() == 3


def test_a_folder_that_root_makes_is_its_parents_owners(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(tmp_path, 65534, 65534)
    segment = tmp_path / "0-a.jsonl"
    segment.write_bytes(b"x")
    reader.put_with_applied(segment)
    found = (tmp_path / reader.APPLIED).stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (65534, 65534, 0o700)


def test_a_batch_of_long_lines_has_few_of_them(message: Message) -> None:
    line = hit().replace(b"}", b',"h":{"referer":"%b"}}' % (b"b" * 8000))
    append(*[line] * 3000)
    [segment] = reader.segments(folder())
    sizes, position = [], 0
    while lines := segment.read_lines(position, 20_000):
        sizes.append(lines[-1].end - position)
        position = lines[-1].end
    assert position == segment.size
    assert max(sizes) < reader.BATCH_BYTES + len(line)
    assert len(sizes) > 2


@pytest.mark.django_db(transaction=True)
def test_many_threads_that_read_at_once_read_the_spool_once(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    append(*[hit()] * 500)
    read, really = [], reader.read_lines

    def read_lines(*arguments: object) -> list[reader.Line]:
        lines = really(*arguments)  # type: ignore[arg-type]
        read.append(len(lines))
        time.sleep(0.01)
        return lines

    def work() -> None:
        try:
            left.append(drain(20))
        finally:
            connection.close()

    monkeypatch.setattr(reader, "read_lines", read_lines)
    left: list[int] = []
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left == [0] * 8
    assert sum(read) == 500
    assert Event.objects.count() == 500


@pytest.mark.django_db(transaction=True)
def test_who_waits_for_another_thread_waits_no_longer_than_it_may(message: Message) -> None:
    append(hit())
    with drain_module._draining:
        began = time.monotonic()
        assert drain(0.1) > 0
        assert time.monotonic() - began >= 0.1
        with transaction.atomic():  # who holds the database's locks waits for nobody
            assert drain(20) == 0


@pytest.mark.parametrize(("ahead", "believed"), [(2 * HOUR, True), (2 * DAY, False), (7_000 * 365 * DAY, False)])
def test_a_hit_of_a_clock_that_is_days_ahead_was_when_it_came(message: Message, ahead: int, believed: bool) -> None:
    at = now_ms() + ahead
    append(hit(at))
    assert drain() == 0
    occurred = Event.objects.values_list("occurred_at", flat=True).get()
    assert (abs(occurred.timestamp() * 1000 - at) < 1000) is believed
    assert occurred.timestamp() * 1000 <= now_ms() + DAY


@pytest.mark.parametrize("jump", [0, 26 * 3600])
def test_lines_in_hand_are_not_applied_again_when_a_clock_was_put_forward(message: Message, monkeypatch, jump: int) -> None:
    append(hit())
    writer.close_writers()
    really, real_time = drain_module._apply_lines, time.time

    def late(*arguments: object, **more: object) -> None:
        monkeypatch.undo()
        assert drain() == 0  # another process applies them,
        monkeypatch.setattr(time, "time", lambda: real_time() + jump)
        tidy()  # and forgets them
        monkeypatch.undo()
        really(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(drain_module, "_apply_lines", late)
    drain()
    message.refresh_from_db()
    assert (Event.objects.count(), message.open_count) == (1, 1)
    assert SpoolPosition.objects.count() == (0 if jump else 1)


def test_segments_that_were_put_away_last_are_kept_whatever_their_names_say(db: None) -> None:
    applied = folder() / reader.APPLIED
    applied.mkdir(parents=True)
    now = time.time()
    for name, age in (
        ("0000000002000-old1", 10_000),
        ("0000000003000-old2", 9_000),
        ("0000000001000-new1", 600),
        ("0000000001500-new2", 300),
    ):
        path = applied / f"{name}.jsonl"
        path.write_bytes(b"x" * 100)
        os.utime(path, (now - age, now - age))
    assert [path.name[14:18] for path in reader.past_keeping(folder(), 90_000, 200)] == ["old1", "old2"]


@pytest.mark.parametrize("before", [b"", lost_line(3), b"garbage\n" * 9])
def test_the_oldest_hit_is_looked_for_behind_what_has_no_time(message: Message, before: bytes) -> None:
    append(before, hit(now_ms() - HOUR))
    assert backlog().lag == pytest.approx(3600, abs=60)
    assert pending() > 0


@pytest.mark.django_db(transaction=True)
def test_an_ingester_does_not_end_with_a_mistake_of_ours(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracking.ingest import worker

    mistakes, really = [RuntimeError("ours"), RecursionError("too"), OSError(28, "No space left on device")], drain_module.drain_once

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if not mistakes and drain_module.pending() == 0:
                self.set()
            return self.is_set()

    def drain_once(*arguments: object, **more: object) -> bool:
        if mistakes:
            raise mistakes.pop()
        return really(*arguments, **more)  # type: ignore[arg-type]

    append(hit())
    monkeypatch.setattr(drain_module, "drain_once", drain_once)
    monkeypatch.setattr(connection, "close", lambda: None)
    worker.run(Stop())
    assert Event.objects.count() == 1


def test_who_has_little_time_takes_less_until_it_is_enough(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no ingester runs, nobody else would ever take in what is too much for a read."""
    really = drain_module.apply

    def slow(events: list[TrackingEvent]) -> Applied:
        if len(events) > 7:
            raise OperationalError("canceling statement due to statement timeout")
        return really(events)

    append(*[hit()] * 400)
    monkeypatch.setattr(drain_module, "_pace", Pace())
    monkeypatch.setattr(drain_module, "apply", slow)
    for _ in range(500):
        if drain(10) == 0:
            break
    assert Event.objects.count() == 400


def test_what_waits_is_known_while_the_database_is_away(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    append(*[hit()] * 50)
    assert drain() == 0
    append(line := hit())

    def away(events: list[TrackingEvent]) -> Applied:
        raise OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr(drain_module, "apply", away)
        assert [drain(10), drain(10), pending()] == [len(line)] * 3
    SpoolPosition.objects.update(position=0)  # it comes back without its last commits
    Event.objects.all().delete()
    assert drain() == 0
    assert Event.objects.count() == 51


@pytest.mark.django_db(transaction=True)
def test_positions_that_a_database_may_have_lost_are_read_again_though_nothing_waits(message: Message, monkeypatch) -> None:
    append(hit())
    assert drain() == 0
    drain_module._doubted.update(drain_module._positions)  # as after a failure
    SpoolPosition.objects.update(position=0)
    assert drain_module.drain_once() is False, "as much waits as before: nothing"
    assert Event.objects.count() == 2
    assert not drain_module._doubted


def test_a_segment_that_cannot_be_looked_at_does_not_keep_the_folder_from_being_put_in_order(db: None, monkeypatch) -> None:
    folder().mkdir(parents=True)
    empty = folder() / "0-a.jsonl"
    empty.touch()
    really = reader.has_writer

    def has_writer(path: Path) -> bool:
        if path == empty:
            raise PermissionError(13, "Permission denied")
        return really(path)

    old = folder() / reader.APPLIED / "0-old.jsonl"
    old.parent.mkdir()
    old.write_bytes(b"x")
    SpoolPosition.objects.create(segment=old.name, position=1)
    os.utime(old, (0, 0))
    monkeypatch.setattr(reader, "has_writer", has_writer)
    tidy()
    assert not old.exists()


def test_a_letter_of_a_clock_that_is_days_ahead_was_when_it_became_one(message: Message) -> None:
    line = hit(now_ms() + 9 * DAY)
    letter = DeadLetter.objects.create(segment="a", position=0, line=line, error="x")
    assert replay(letters()) == Replayed(applied=1)
    assert Event.objects.get().occurred_at == letter.created_at
