from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable

import pytest
import time_machine
from django.conf import settings

from campaigns.events import EventKind, now_ms
from campaigns.models import CampaignCounters, Message
from tests.services import RedisServer, redis_server
from tests.tracking.conftest import Ran
from tracking.cli import output
from tracking.ingest import drain
from tracking.ingest.status import ingest_status
from tracking.metrics.names import count_loss
from tracking.metrics.shared import process_counters
from tracking.models import DeadLetter, IngestCount
from tracking.spool import writer
from tracking.spool.lines import hit_line

__all__ = ["redis_server"]
Cli = Callable[..., Ran]


def append(*lines: bytes) -> None:
    assert writer.process_writer(settings.CONF.spool_dir).append_many(lines)


def hit(token: str = "uuid-token") -> bytes:
    return hit_line(EventKind.OPENED, token, now_ms())


def test_status_says_how_things_stand_and_drains_nothing(cli: Cli, message: Message) -> None:
    append(hit())
    found = cli("email-tracking-cli ingest status --json").json
    assert list(found)[:5] == ["pending", "lag_seconds", "dead_letters", "unknown_tokens", "dropped"]
    assert (found["pending"], found["segments"], found["ingesters"], found["disk"]["writable"]) == (len(hit()), 1, 0, True)
    shown = cli("email-tracking-cli ingest status").out
    assert f"Pending:        {len(hit())} bytes in 1 segment\n" in shown
    assert "Ingesters:      0\n" in shown
    assert "cannot be written" not in shown
    assert re.search(r"^Disk: +[\d.]+ [kMGT]B free$", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
     (82_148_192_256, "82.1 GB"), (999_960_000_000, "1.0 TB"), (5 * 10**15, "5000.0 TB")],
)  # fmt: skip
def test_a_size_is_written_for_people(count: int, shown: str) -> None:
    assert output.size(count) == shown


def test_status_says_what_is_in_the_stream(cli: Cli, message: Message, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracking.spool.stream import Chunk, Stream

    monkeypatch.setitem(vars(settings.CONF), "spool_url", redis_server.url)
    assert "Stream:         0 chunks\n" in cli("email-tracking-cli ingest status").out
    Stream(redis_server.url).add(Chunk("1.jsonl", 0, 2, b"a\n"))
    found = cli("email-tracking-cli ingest status --json").json["stream"]
    assert (found["chunks"], 0 <= found["oldest_seconds"] < 10) == (1, True)
    assert "1 chunk, the oldest sent 0." in cli("email-tracking-cli ingest status").out
    redis_server.kill()
    assert "Redis is away" in cli("email-tracking-cli ingest status").out


@pytest.mark.django_db(transaction=True)
def test_status_says_how_many_events_came_in_within_the_last_minute(cli: Cli, message: Message) -> None:
    with time_machine.travel("2026-03-01T12:00:00Z") as clock:
        append(*[hit() for _ in range(30)])
        cli("email-tracking-cli ingest drain")
        clock.shift(10)
        append(*[hit() for _ in range(60)])
        cli("email-tracking-cli ingest drain")
        rates = []
        for seconds in (18, 18, 19, 18):
            clock.shift(seconds)
            rates.append(cli("email-tracking-cli ingest status --json").json["events_per_second"])
    assert rates == [1.5, 1.5, 1.0, 0.0]


def test_losses_are_shown_at_once_whichever_process_had_them(cli: Cli, message: Message) -> None:
    append(hit())
    counters = process_counters(settings.CONF.spool_dir)
    count_loss(counters, 7)
    found = cli("email-tracking-cli ingest status --json").json
    assert (found["dropped"], found["disk"]["writable"]) == (7, False)
    assert "hits cannot be written" in cli("email-tracking-cli ingest status").out
    counters.close()
    assert cli("email-tracking-cli ingest status --json").json["dropped"] == 7


def test_a_loss_that_is_said_is_not_counted_twice(cli: Cli, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0)
    one, really = writer.process_writer(settings.CONF.spool_dir), os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    assert not one.append_many([hit(), hit()])
    monkeypatch.setattr(os, "write", really)
    assert one.append(hit())
    assert cli("email-tracking-cli ingest status --json").json["dropped"] == 2
    cli("email-tracking-cli ingest drain")
    assert cli("email-tracking-cli ingest status --json").json["dropped"] == 2


def test_what_a_dead_process_lost_and_did_not_say_the_ingester_says(message: Message) -> None:
    append(hit())
    counters = process_counters(settings.CONF.spool_dir)
    count_loss(counters, 3)
    counters.close()
    for _ in range(2):
        drain.tidy()
        drain.drain()
        assert dict(IngestCount.objects.values_list("name", "n")) == {"dropped": 3}
    assert ingest_status()["dropped"] == 3


def test_drain_takes_in_what_is_there(cli: Cli, message: Message) -> None:
    append(hit(), hit(), hit("nobody"))
    found = cli("email-tracking-cli ingest drain --json").json
    assert (found["applied"] > 0, found["pending"]) == (True, 0)
    assert Message.objects.get().open_count == 2
    assert cli("email-tracking-cli ingest status --json").json["unknown_tokens"] == 1
    assert cli("email-tracking-cli ingest drain") == Ran(0, "Nothing is pending\n", "")


def test_drain_says_how_many_lines_became_dead_letters(cli: Cli, message: Message, letter: DeadLetter) -> None:
    append(b"{\n", hit(), b"{\n")
    ran = cli("email-tracking-cli ingest drain")
    assert (ran.status, ran.out) == (0, f"Took in {len(hit()) + 4} bytes, 0 pending\n")
    assert ran.err == "2 new dead letters: lines that could not be applied; `ingest dead-letters` says why\n"
    append(hit())
    assert cli("email-tracking-cli ingest drain").err == ""


@pytest.fixture
def letter(message: Message) -> DeadLetter:
    return DeadLetter.objects.create(segment="s", position=0, line=hit(), error="was broken")


def test_dead_letters_are_listed_and_replayed(cli: Cli, letter: DeadLetter) -> None:
    assert "was broken" in cli("email-tracking-cli ingest dead-letters").out
    assert [each["id"] for each in cli("email-tracking-cli ingest dead-letters list --json").json] == [letter.pk]
    assert cli("email-tracking-cli ingest dead-letters replay") == Ran(0, "1 applied, 0 of no message, 0 failed\n", "")
    assert Message.objects.get().open_count == 1
    assert cli("email-tracking-cli ingest dead-letters --json").json == []


def test_purge_asks_and_can_choose(cli: Cli, letter: DeadLetter) -> None:
    other = DeadLetter.objects.create(segment="s", position=9, line=b"\xff\x1b[2J", error="no JSON")
    assert cli("email-tracking-cli ingest dead-letters purge", "n\n").status == 1
    assert DeadLetter.objects.count() == 2
    assert cli(f"email-tracking-cli ingest dead-letters purge --id {letter.pk} --yes").out == "Dropped 1 dead letter\n"
    assert DeadLetter.objects.get() == other
    assert "\x1b" not in cli("email-tracking-cli ingest dead-letters").out
    assert cli("email-tracking-cli ingest dead-letters purge --json", "y\n").json == {"purged": 1}


def test_the_limit_is_that_of_every_action_oldest_first(cli: Cli, message: Message) -> None:
    pks = [DeadLetter.objects.create(segment="s", position=n, line=hit(), error="was broken").pk for n in range(7)]

    def left() -> list[int]:
        return list(DeadLetter.objects.order_by("id").values_list("pk", flat=True))

    assert [each["id"] for each in cli("email-tracking-cli ingest dead-letters --limit 2 --json").json] == pks[:2]
    assert cli("email-tracking-cli ingest dead-letters replay --limit 2").out == "2 applied, 0 of no message, 0 failed\n"
    assert left() == pks[2:]
    assert cli("email-tracking-cli ingest dead-letters purge --limit 2", "y\n").err.startswith("Drop 2 dead letters for good?")
    assert left() == pks[4:]
    assert cli(f"email-tracking-cli ingest dead-letters purge --id {pks[5]} --id {pks[6]} --limit 1 -y").out == "Dropped 1 dead letter\n"
    assert left() == [pks[4], pks[6]]


def test_without_a_limit_all_are_tried_again_or_dropped(cli: Cli, message: Message) -> None:
    DeadLetter.objects.bulk_create(DeadLetter(segment="s", position=n, line=b"{", error="no JSON") for n in range(101))
    assert len(cli("email-tracking-cli ingest dead-letters --json").json) == 100
    assert cli("email-tracking-cli ingest dead-letters replay --json").json == {"applied": 0, "unknown": 0, "failed": 101}
    assert cli("email-tracking-cli ingest dead-letters purge -y").out == "Dropped 101 dead letters\n"


@pytest.mark.parametrize("action", ["list", "replay", "purge -y"])
@pytest.mark.parametrize(("ids", "said"), [("99", "99"), ("100 99", "99, 100"), ("0 -1", "-1, 0"), (str(2**63), str(2**63))])
def test_an_id_that_is_none_is_refused_before_anything_is_done(cli: Cli, letter: DeadLetter, action: str, ids: str, said: str) -> None:
    options = " ".join(f"--id {pk}" for pk in [letter.pk, *ids.split()])
    ran = cli(f"email-tracking-cli ingest dead-letters {action} {options}")
    assert ran == Ran(1, "", f"error: there is no dead letter {said}\n")
    assert DeadLetter.objects.get() == letter


def test_letters_that_fail_again_fail_the_command(cli: Cli, letter: DeadLetter) -> None:
    DeadLetter.objects.create(segment="s", position=9, line=b"{", error="was broken")
    failed = "error: 1 dead letter could not be applied again; `ingest dead-letters` says why\n"
    assert cli("email-tracking-cli ingest dead-letters replay") == Ran(1, "1 applied, 0 of no message, 1 failed\n", failed)
    ran = cli("email-tracking-cli ingest dead-letters replay --json")
    assert (ran.status, ran.json, ran.err) == (1, {"applied": 0, "unknown": 0, "failed": 1}, failed)


def test_recount_reports_and_puts_right(cli: Cli, message: Message) -> None:
    line = f"email-tracking-cli maintenance recount {message.campaign_id}"
    assert cli(line) == Ran(0, "1 campaign counted, 0 put right\n", "")
    CampaignCounters.objects.update(opened=7)
    wrong = [{"campaign_id": message.campaign_id, "name": "opened", "stored": 7, "counted": 0}]
    assert cli(f"{line} --dry-run --json").json == wrong
    assert cli(f"{line} --json").json == wrong
    assert cli("email-tracking-cli maintenance recount --json").json == []
