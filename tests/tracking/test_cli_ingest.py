from __future__ import annotations

from collections.abc import Callable

import pytest
from django.conf import settings

from campaigns.events import EventKind, now_ms
from campaigns.models import CampaignCounters, Message
from tests.tracking.conftest import Ran
from tracking.models import DeadLetter
from tracking.spool import writer
from tracking.spool.lines import hit_line

Cli = Callable[..., Ran]


def append(*lines: bytes) -> None:
    assert writer.process_writer(settings.CONF.spool_dir).append_many(lines)


def hit(token: str = "uuid-token") -> bytes:
    return hit_line(EventKind.OPENED, token, now_ms())


def test_status_has_exactly_these_keys_and_drains_nothing(cli: Cli, message: Message) -> None:
    append(hit())
    found = cli("email-tracking-cli ingest status --json").json
    assert list(found) == ["pending", "lag_seconds", "dead_letters", "unknown_tokens", "dropped"]
    assert found["pending"] == len(hit())
    assert f"Pending:        {len(hit())} bytes\n" in cli("email-tracking-cli ingest status").out


def test_drain_takes_in_what_is_there(cli: Cli, message: Message) -> None:
    append(hit(), hit(), hit("nobody"))
    found = cli("email-tracking-cli ingest drain --json").json
    assert (found["applied"] > 0, found["pending"]) == (True, 0)
    assert Message.objects.get().open_count == 2
    assert cli("email-tracking-cli ingest status --json").json["unknown_tokens"] == 1
    assert cli("email-tracking-cli ingest drain") == Ran(0, "Nothing is pending\n", "")


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


def test_recount_reports_and_puts_right(cli: Cli, message: Message) -> None:
    line = f"email-tracking-cli maintenance recount {message.campaign_id}"
    assert cli(line) == Ran(0, "1 campaign counted, 0 put right\n", "")
    CampaignCounters.objects.update(opened=7)
    wrong = [{"campaign_id": message.campaign_id, "name": "opened", "stored": 7, "counted": 0}]
    assert cli(f"{line} --dry-run --json").json == wrong
    assert cli(f"{line} --json").json == wrong
    assert cli("email-tracking-cli maintenance recount --json").json == []
