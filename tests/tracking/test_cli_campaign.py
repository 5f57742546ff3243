from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from campaigns import export, lifecycle
from campaigns.events import EventKind
from campaigns.models import Campaign, CampaignCounters, Message
from tests.tracking.conftest import Ran
from tracking import by_id
from tracking.cli import output
from tracking.ingest.drain import drain

Cli = Callable[..., Ran]

#: As the guide shows it.
TABLE = """\
╒════╤════════════════════╤═══════╤══════╤════════╤═════════╤═════════╤═════════╤═══════╤════════╕
│ ID │ Name               │ Total │ Sent │ Opened │ Clicked │ Bounced │ Open %  │ Click │ Bounce │
╞════╪════════════════════╪═══════╪══════╪════════╪═════════╪═════════╪═════════╪═══════╪════════╡
│  1 │ Summer Sale 2024   │  1000 │  950 │    475 │      95 │      45 │ 50.0    │ 10.0  │  4.5   │
╘════╧════════════════════╧═══════╧══════╧════════╧═════════╧═════════╧═════════╧═══════╧════════╛
"""


def numbered(pk: int, name: str, **numbers: int) -> Campaign:
    campaign = Campaign.objects.create(pk=pk, name=name)
    CampaignCounters.objects.create(campaign=campaign, **numbers)
    return campaign


@pytest.fixture
def sample(db: None) -> Campaign:
    return numbered(1, "Summer Sale 2024", total=1000, sent=950, opened=475, clicked=95, bounced=45)


def test_list_prints_the_table_of_the_guide_byte_for_byte(cli: Cli, sample: Campaign) -> None:
    assert cli("email-tracking-cli campaign list") == Ran(0, TABLE, "")


def test_created_campaign_is_named_with_its_id(cli: Cli) -> None:
    ran = cli('email-tracking-cli campaign create --name "Summer Sale 2024" --template-id 5')
    campaign = Campaign.objects.get()
    assert ran == Ran(0, f"Created campaign {campaign.pk}: Summer Sale 2024\n", "")
    assert (campaign.name, campaign.template_id) == ("Summer Sale 2024", 5)


def test_create_takes_tags_and_metadata(cli: Cli) -> None:
    made = cli("""email-tracking-cli campaign create --name x --tag a --tag b --metadata '{"k": 1}' --json""").json
    assert (made["tags"], made["metadata"], made["metrics"]["total"]) == (["a", "b"], {"k": 1}, 0)


def test_empty_list_keeps_its_heads_and_says_how_to_begin(cli: Cli) -> None:
    ran = cli("email-tracking-cli campaign list")
    assert ran.status == 0
    assert ran.out.splitlines()[1] == "│ ID │ Name │ Total │ Sent │ Opened │ Clicked │ Bounced │ Open %  │ Click │ Bounce │"
    assert "email-tracking-cli campaign create --name" in ran.err


def test_list_is_newest_first_without_archived_ones_unless_asked(cli: Cli) -> None:
    first, second, archived = (lifecycle.create_campaign(name) for name in ("first", "second", "archived"))
    assert cli(f"email-tracking-cli campaign archive {archived.pk}").out == f"Campaign {archived.pk} is archived: archived\n"
    ran = cli("email-tracking-cli campaign list")
    assert [line.split("│")[2].strip() for line in ran.out.splitlines()[3::2] if "│" in line] == ["second", "first"]
    assert ran.err == "1 archived not shown; --archived shows them too\n"
    assert [each["id"] for each in cli("email-tracking-cli campaign list --archived --json").json] == [archived.pk, second.pk, first.pk]
    cli(f"email-tracking-cli campaign archive {archived.pk} --undo")
    assert len(cli("email-tracking-cli campaign list --json").json) == 3


def test_list_can_be_narrowed_by_tag_and_number(cli: Cli) -> None:
    for tags in (["a"], ["a", "b"], []):
        lifecycle.create_campaign("x", tags=tags)
    assert len(cli("email-tracking-cli campaign list --tag a --json").json) == 2
    assert len(cli("email-tracking-cli campaign list --limit 1 --json").json) == 1


@pytest.mark.parametrize("name", ["夏のセール 2024", "Été 🎉🎉", "한국어 캠페인", "x" * 200, "全" * 200, "e\u0301te\u0301"])
def test_any_name_leaves_the_table_aligned(cli: Cli, sample: Campaign, name: str) -> None:
    numbered(2, name, total=7)
    lines = cli("email-tracking-cli campaign list").out.splitlines()
    assert {output.width(line) for line in lines} == {output.width(lines[0])}
    assert name in lines[3]


def test_a_narrow_terminal_gets_names_cut_and_a_pipe_gets_them_whole(sample: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    row: Any = (1, "全" * 100, 1, 1, 1, 1, 1, 1.0, 1.0, 1.0)
    assert "全" * 100 in output.campaign_table([row])
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "110")
    lines = output.campaign_table([row]).splitlines()
    assert {output.width(line) for line in lines} <= {109, 110}
    assert "…" in lines[3]


def test_control_characters_reach_no_terminal(cli: Cli, sample: Campaign) -> None:
    hostile = "\x1b[2Jgone\x9b31m\u202e"
    Message.objects.create(campaign=sample, recipient_email=f"{hostile}@example.com", tracking_token="t", bounce_reason=hostile)
    Campaign.objects.filter(pk=1).update(name=hostile)
    pk = Message.objects.get().pk
    for line in ("campaign list", "campaign show 1", "campaign messages 1", f"message show {pk}", "campaign messages 1 --json"):
        out = cli(f"email-tracking-cli {line}").out
        assert "gone" in out
        assert not set(out) & {"\x1b", "\x9b", "\u202e"}, line
    assert cli("email-tracking-cli campaign list --json").json[0]["name"] == hostile


def test_show_tells_all_numbers_and_reasons(cli: Cli, campaign: Campaign, message: Message) -> None:
    by_id.mark("cli", EventKind.BOUNCED, message.pk, reason="User unknown")
    ran = cli(f"email-tracking-cli campaign show {campaign.pk}")
    assert "Name:         Newsletter Q1 2024\n" in ran.out
    assert "Bounced:      1 (100.0%)\n" in ran.out
    assert "│ User unknown  │        1 │" in ran.out
    shown = cli(f"email-tracking-cli campaign show {campaign.pk} --json").json
    assert shown["metrics"]["bounce_reasons"] == {"User unknown": 1}


def test_messages_come_in_pages(cli: Cli, campaign: Campaign) -> None:
    lifecycle.create_messages([{"campaign_id": campaign.pk, "recipient_email": f"user{n}@example.com"} for n in range(12)])
    ran = cli(f"email-tracking-cli campaign messages {campaign.pk} --limit 10")
    assert ran.status == 0
    assert ran.out.count("@example.com") == 10
    assert ran.err == "10 of 12 shown; --offset 10 shows the next\n"
    rest = cli(f"email-tracking-cli campaign messages {campaign.pk} --limit 10 --offset 10 --json").json
    assert [each["recipient_email"] for each in rest] == ["user10@example.com", "user11@example.com"]
    assert cli(f"email-tracking-cli campaign messages {campaign.pk} --status bounced --json").json == []


def test_export_writes_the_file_named(cli: Cli, campaign: Campaign, message: Message, tmp_path: Path) -> None:
    target = tmp_path / "campaign_1.csv"
    ran = cli(f"email-tracking-cli campaign export {campaign.pk} --output {target}")
    assert ran == Ran(0, f"Wrote 1 message of campaign {campaign.pk} to {target}\n", "")
    assert [row["tracking_token"] for row in csv.DictReader(io.StringIO(target.read_text()))] == ["uuid-token"]
    assert [path.name for path in tmp_path.iterdir()] == ["campaign_1.csv"]
    told = cli(f"email-tracking-cli campaign export {campaign.pk} --output {target} --json").json
    assert told == {"campaign_id": campaign.pk, "output": str(target), "messages": 1}


def test_export_without_a_file_is_printed(cli: Cli, campaign: Campaign, message: Message) -> None:
    ran = cli(f"email-tracking-cli campaign export {campaign.pk}")
    assert ran.err == ""
    assert ran.out.encode() == b"".join(export.csv_chunks(campaign.pk))


def test_an_export_shown_on_a_terminal_cannot_command_it(
    cli: Cli, campaign: Campaign, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_id.mark("cli", EventKind.BOUNCED, message.pk, reason="\x1b[2J gone")
    assert "\x1b" in cli(f"email-tracking-cli campaign export {campaign.pk}").out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = cli(f"email-tracking-cli campaign export {campaign.pk}").out
    assert "\\x1b[2J gone" in shown
    assert "\x1b" not in shown


def test_a_broken_export_leaves_the_old_file(
    cli: Cli, campaign: Campaign, message: Message, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "campaign.csv"
    target.write_text("old")

    def breaks(pk: int) -> Any:
        yield 0, b"id"
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "csv_parts", breaks)
    assert cli(f"email-tracking-cli campaign export {campaign.pk} --output {target}") == Ran(130, "", "")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["campaign.csv"]


def test_export_of_a_link_keeps_the_link(cli: Cli, campaign: Campaign, tmp_path: Path) -> None:
    (tmp_path / "real.csv").touch()
    (tmp_path / "link.csv").symlink_to("real.csv")
    cli(f"email-tracking-cli campaign export {campaign.pk} -o {tmp_path}/link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("id,")


@pytest.mark.parametrize("answers", ["", "\n", "n\n", "nonsense\n", "no", "ye\n"])
def test_delete_asks_and_only_yes_is_yes(cli: Cli, campaign: Campaign, message: Message, answers: str) -> None:
    ran = cli(f"email-tracking-cli campaign delete {campaign.pk}", answers)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == f"Delete campaign {campaign.pk} (Newsletter Q1 2024) with its 1 message? [y/N] \nerror: aborted\n"
    assert Message.objects.living().count() == 1


@pytest.mark.parametrize(("option", "answers"), [("", "y\n"), ("", "Yes"), ("--yes", ""), ("-y", "n\n")])
def test_delete_removes_everything_at_once(cli: Cli, campaign: Campaign, message: Message, option: str, answers: str) -> None:
    by_id.mark("cli", EventKind.OPENED, message.pk)
    ran = cli(f"email-tracking-cli campaign delete {campaign.pk} {option}", answers)
    assert (ran.status, ran.out) == (0, f"Deleted campaign {campaign.pk} with 1 message: Newsletter Q1 2024\n")
    assert not Message.objects.exists()
    assert not Campaign.objects.exists()
    assert drain() == 0


def test_delete_of_nothing_asks_nothing(cli: Cli) -> None:
    assert cli("email-tracking-cli campaign delete 1") == Ran(1, "", "error: there is no campaign 1\n")
