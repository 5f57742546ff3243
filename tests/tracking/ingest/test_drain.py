from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from campaigns.events import EventKind, now_ms
from campaigns.models import Campaign, Event, Message
from tracking.ingest import dead_letters
from tracking.ingest import drain as drain_module
from tracking.ingest.drain import drain, drain_sources, forget_positions, pending, tidy
from tracking.ingest.pace import HOLD_SECONDS, MIN_BATCH, SHARED_HOLD_SECONDS, Pace
from tracking.ingest.status import ingest_status
from tracking.models import DeadLetter, SpoolPosition
from tracking.spool import reader, writer
from tracking.spool.lines import hit_line, lost_line, told

pytestmark = pytest.mark.django_db


def spool() -> Path:
    return settings.CONF.spool_dir


def append(*lines: bytes) -> None:
    assert writer.process_writer(spool()).append_many(lines)


def hit(token: str = "uuid-token", at: int | None = None) -> bytes:
    return hit_line(EventKind.OPENED, token, at or now_ms(), told=told(user_agent="Mozilla/5.0"))


def test_hits_are_applied_once_however_often_the_spool_is_drained(message: Message) -> None:
    append(hit(), hit())
    append(hit())
    assert pending() > 0
    assert drain() == 0
    forget_positions()
    assert drain() == 0
    assert pending() == 0
    message.refresh_from_db()
    assert (message.open_count, message.status) == (3, "opened")


def test_nothing_pending_costs_no_query(message: Message, django_assert_num_queries) -> None:
    append(hit())
    drain()
    with django_assert_num_queries(0):
        assert drain(0.25) == 0


def test_no_spool_yet_is_nothing_pending(db: None) -> None:
    assert pending() == 0
    assert drain() == 0


def test_a_drainer_that_finds_the_position_moved_applies_nothing(message: Message) -> None:
    append(hit())
    [segment] = reader.segments(spool())
    SpoolPosition.objects.create(segment=segment.name, position=segment.size)
    drain_module._positions[segment.name] = 0
    lines = reader.read_lines(segment.path, 0, segment.size, 10)
    assert drain_module._apply_batch(segment.name, 0, lines, drain_module.Deadline(None), segment) == segment.size
    assert not Event.objects.exists()


def test_garbage_goes_to_the_dead_letters_and_the_hits_around_it_are_applied(message: Message) -> None:
    append(hit(), b"garbage\n", b"\0" * 300 + b"\n", b"x" * 1_000_000 + b"\n", hit())
    assert drain() == 0
    assert Event.objects.count() == 2
    assert ingest_status()["dead_letters"] == 3
    assert all(len(bytes(letter.line)) <= 131_072 and letter.error for letter in DeadLetter.objects.all())


def test_the_torn_tail_of_a_dead_writer_is_set_aside(message: Message) -> None:
    append(hit(), hit()[:-9])
    assert drain() == len(hit()) - 9, "its writer lives and may finish it"
    writer.close_writers()
    assert drain() == 0
    assert Event.objects.count() == 1
    assert "middle" in DeadLetter.objects.get().error
    assert reader.segments(spool()) == []
    assert len(reader.applied_segments(spool())) == 1


def test_an_event_that_cannot_be_applied_goes_alone_to_the_dead_letters_and_can_be_replayed(message: Message, monkeypatch) -> None:
    really = drain_module.apply

    def poisoned(events):
        if any(event.token == "poison" for event in events):
            raise ValueError("cannot be")
        return really(events)

    monkeypatch.setattr(drain_module, "apply", poisoned)
    append(*[hit()] * 5, hit("poison"), *[hit()] * 5)
    assert drain() == 0
    assert Event.objects.count() == 10
    letter = DeadLetter.objects.get()
    assert "cannot be" in letter.error
    monkeypatch.undo()
    Message.objects.filter(pk=message.pk).update(tracking_token="poison")
    assert dead_letters.replay(dead_letters.letters()) == dead_letters.Replayed(applied=1)
    assert not DeadLetter.objects.exists()
    assert Event.objects.count() == 11


def test_a_letter_that_still_says_nothing_stays(db: None) -> None:
    DeadLetter.objects.create(segment="s", position=0, line=b"garbage", error="once")
    assert dead_letters.replay(dead_letters.letters()) == dead_letters.Replayed(failed=1)
    assert "no JSON" in DeadLetter.objects.get().error
    assert dead_letters.purge(dead_letters.letters()) == 1


def test_unknown_tokens_and_losses_are_counted_and_leave_no_row(message: Message) -> None:
    append(hit("nobody"), lost_line(5), hit("nobody-else"), hit())
    drain()
    status = ingest_status()
    assert (status["unknown_tokens"], status["dropped"]) == (2, 5)
    assert Event.objects.count() == 1


def test_status_tells_what_waits_and_for_how_long(message: Message) -> None:
    append(hit(at=now_ms() - 60_000))
    status = ingest_status()
    assert status["pending"] == pending() > 0
    assert 59 < status["lag_seconds"] < 120
    drain()
    assert (ingest_status()["pending"], ingest_status()["lag_seconds"]) == (0, 0.0)


def test_with_a_budget_a_database_that_is_away_is_no_error(message: Message, monkeypatch) -> None:
    append(hit())

    def away(events):
        raise OperationalError("away")

    monkeypatch.setattr(drain_module, "apply", away)
    assert drain(0.25) == len(hit())
    with pytest.raises(OperationalError):
        drain()
    monkeypatch.undo()
    assert drain() == 0
    assert Event.objects.count() == 1


def test_what_comes_during_a_drain_is_the_next_ones(message: Message, monkeypatch) -> None:
    append(hit())
    really = drain_module.apply

    def slow(events):
        append(hit())
        return really(events)

    monkeypatch.setattr(drain_module, "apply", slow)
    drain()
    assert Event.objects.count() == 1
    monkeypatch.undo()
    drain()
    assert Event.objects.count() == 2


def test_a_restored_database_catches_up_from_the_kept_spool(message: Message) -> None:
    append(hit(), hit())
    drain()
    backup = list(SpoolPosition.objects.values_list("segment", "position"))
    append(hit())
    writer.close_writers()
    drain()
    assert reader.segments(spool()) == []
    # back to the copy: one hit and the position after it are gone
    Event.objects.filter(pk=Event.objects.latest("id").pk).delete()
    SpoolPosition.objects.filter(pk=backup[0][0]).update(position=backup[0][1])
    forget_positions()
    tidy()
    assert drain() == 0
    assert Event.objects.count() == 3


def test_applied_segments_are_kept_as_long_as_the_setting_says(message: Message, monkeypatch) -> None:
    for age in (10, 90_000, 100_000):
        append(hit())
        writer.close_writers()
        drain()
        [newest] = [segment for segment in reader.applied_segments(spool()) if segment.path.stat().st_mtime > time.time() - 5]
        os.utime(newest.path, (time.time() - age, time.time() - age))
    append(hit())
    tidy()
    assert len(reader.applied_segments(spool())) == 1
    assert len(reader.segments(spool())) == 1, "what is not applied is never removed"
    assert SpoolPosition.objects.count() == 1


def test_a_batch_adapts_to_what_the_database_can_take(message: Message, monkeypatch) -> None:
    monkeypatch.setattr(drain_module, "_pace", Pace())
    for name in ("HOLD_SECONDS", "SHARED_HOLD_SECONDS"):
        monkeypatch.setattr(drain_module, name, 0.0)
    append(*[hit()] * 1_300)
    with CaptureQueriesContext(connection) as captured:
        drain()
    assert len([query for query in captured if query["sql"].startswith("UPDATE spool_positions")]) == 1_300 / MIN_BATCH
    assert Event.objects.count() == 1_300


@pytest.mark.parametrize(
    ("others", "rest", "budget", "hold"),
    [
        (False, 0.0, None, HOLD_SECONDS),
        (True, 0.0, None, SHARED_HOLD_SECONDS),  # somebody wrote, or waited to
        (False, 0.12, None, SHARED_HOLD_SECONDS),  # the cores are wanted
        (False, 0.0, 5.0, SHARED_HOLD_SECONDS),  # a request waits for this drain
    ],
)
def test_sqlites_one_lock_is_held_for_long_only_by_who_is_alone(
    others: bool, rest: float, budget: float | None, hold: float, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds, pace = [], Pace()
    monkeypatch.setattr(pace, "lines", lambda hold, left: holds.append(hold) or 100)
    monkeypatch.setattr(drain_module, "_pace", pace)
    monkeypatch.setattr(drain_module, "give_way", lambda: others)
    append(hit())
    drain_sources(reader.segments(spool()), budget, lambda lag: time.sleep(rest) or True)
    assert holds == [hold if connection.vendor == "sqlite" else HOLD_SECONDS]


def test_a_drain_costs_few_queries_for_many_hits(message: Message, monkeypatch) -> None:
    monkeypatch.setattr(drain_module, "_pace", Pace())
    append(*[hit()] * 200)
    with CaptureQueriesContext(connection) as captured:
        drain()
    assert len([query for query in captured if "SAVEPOINT" not in query["sql"]]) <= 25


DRAINER = """
import os, sys, django
django.setup()
from tracking.ingest.drain import drain, forget_positions
from django.db import OperationalError
print(flush=True)
while True:
    forget_positions()
    try:
        drain()
    except OperationalError:
        pass
"""


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_drainers_killed_at_any_moment_apply_each_hit_once(campaign: Campaign, message: Message) -> None:
    import subprocess
    import sys

    database = connection.settings_dict["NAME"]
    environment = {**os.environ}
    if connection.vendor == "postgresql":
        environment["TRACKING_DATABASE_URL"] = os.environ["TRACKING_DATABASE_URL"].rsplit("/", 1)[0] + f"/{database}"
    else:
        environment["TRACKING_DB_PATH"] = str(database)
        environment["TRACKING_DATA_DIR"] = str(spool().parent)
        assert settings.CONF.data_dir is None
        spool().parent.joinpath("spool").symlink_to(spool())

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", DRAINER], env=environment, stdout=subprocess.PIPE)

    sent, chance = 0, random.Random(1)
    crew = [start() for _ in range(3)]
    try:
        for round_ in range(12):
            for _ in range(40):
                append(*[hit()] * 25)
                sent += 25
            victim = crew[round_ % 3]
            victim.stdout.readline()  # it is at work
            time.sleep(chance.uniform(0, 0.15))
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            crew[round_ % 3] = start()
        assert Event.objects.count() > 1000, "they were at it"
    finally:
        for process in crew:
            process.kill()
            process.communicate()
        link = spool().parent / "spool"
        if link.is_symlink():
            link.unlink()
    forget_positions()
    assert drain() == 0
    message.refresh_from_db()
    assert (message.open_count, Event.objects.count()) == (sent, sent)
