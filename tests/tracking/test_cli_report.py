from __future__ import annotations

from collections.abc import Callable

import pytest

from campaigns import lifecycle
from campaigns.apply import apply
from campaigns.events import EventKind, TrackingEvent, now_ms
from campaigns.models import Campaign, Message
from tests.tracking.conftest import Ran
from tests.tracking.test_cli_campaign import numbered
from tracking import by_id
from tracking.cli import output
from tracking.models import DeadLetter

Cli = Callable[..., Ran]

#: As the guide shows it.
SUMMARY = """\
=== Email Tracking Summary ===
Total Campaigns: 5
Total Messages: 5000
Total Sent: 4750
Total Opened: 2375
Total Clicked: 475
Total Bounced: 225

Aggregate Rates:
  Open Rate: 50.0%
  Click Rate: 10.0%
  Bounce Rate: 4.5%
"""


def test_summary_is_that_of_the_guide_byte_for_byte(cli: Cli) -> None:
    for pk in range(1, 6):
        numbered(pk, f"campaign {pk}", total=1000, sent=950, opened=475, clicked=95, bounced=45)
    assert cli("email-tracking-cli report summary") == Ran(0, SUMMARY, "")
    sums = cli("email-tracking-cli report summary --json").json
    assert (sums["total_campaigns"], sums["total_messages"], sums["bounce_rate"]) == (5, 5000, 4.5)


def test_summary_of_nothing_has_rates_of_nothing(cli: Cli) -> None:
    assert "  Open Rate: 0.0%\n" in cli("email-tracking-cli report summary").out


@pytest.fixture
def bounced(campaign: Campaign) -> list[Message]:
    messages = lifecycle.create_messages([{"campaign_id": campaign.pk, "recipient_email": f"user{n}@example.com"} for n in range(3)])
    for n, message in enumerate(messages):
        reason = "Mailbox full" if n == 2 else "User unknown"
        by_id.mark("cli", EventKind.BOUNCED, message.pk, f"2024-01-15T10:0{n}:00Z", reason=reason)
    return messages


def test_bounces_are_listed_latest_first_with_their_reasons(cli: Cli, campaign: Campaign, bounced: list[Message]) -> None:
    ran = cli(f"email-tracking-cli report bounces --campaign-id {campaign.pk} --limit 20")
    assert (ran.status, ran.err) == (0, "")
    assert [line.split("│")[3].strip() for line in ran.out.splitlines() if "@" in line] == [f"user{n}@example.com" for n in (2, 1, 0)]
    assert "│ User unknown │        2 │" in ran.out
    found = cli("email-tracking-cli report bounces --limit 1 --json").json
    assert (found["total_bounced"], found["bounce_reasons"]) == (3, {"User unknown": 2, "Mailbox full": 1})
    assert [message["recipient_email"] for message in found["messages"]] == ["user2@example.com"]
    assert cli("email-tracking-cli report bounces --limit 1").err == "1 of 3 shown; --limit shows more\n"


def test_bounces_of_another_campaign_are_not_listed(cli: Cli, bounced: list[Message]) -> None:
    other = lifecycle.create_campaign("other")
    found = cli(f"email-tracking-cli report bounces --campaign-id {other.pk} --json").json
    assert found == {"total_bounced": 0, "bounce_reasons": {}, "messages": []}


def test_links_are_listed_most_clicked_first(cli: Cli, campaign: Campaign, message: Message) -> None:
    for url in ("https://a.example/", "https://b.example/", "https://b.example/"):
        by_id.mark("cli", EventKind.CLICKED, message.pk, url=url)
    ran = cli(f"email-tracking-cli report links {campaign.pk}")
    assert [line.split("│")[3].strip() for line in ran.out.splitlines() if "example" in line] == [
        "https://b.example/",
        "https://a.example/",
    ]


def test_timeline_counts_by_hour_or_day(cli: Cli, campaign: Campaign, message: Message) -> None:
    for at in ("2024-01-15T10:10:00Z", "2024-01-15T10:50:00Z", "2024-01-15T23:00:00Z", "2024-01-16T00:00:00Z"):
        by_id.mark("cli", EventKind.OPENED, message.pk, at)
    hours = cli(f"email-tracking-cli report timeline {campaign.pk} --json").json
    assert [(point["at"], point["opened"], point["clicked"]) for point in hours["results"]] == [
        ("2024-01-15T10:00:00Z", 2, 0),
        ("2024-01-15T23:00:00Z", 1, 0),
        ("2024-01-16T00:00:00Z", 1, 0),
    ]
    ran = cli(f"email-tracking-cli report timeline {campaign.pk} --interval day")
    assert [line.replace(" ", "") for line in ran.out.splitlines() if "│" in line] == [
        "│Day(UTC)│Opened│",
        "│2024-01-15│3│",
        "│2024-01-16│1│",
    ]


def test_events_can_be_narrowed(cli: Cli, campaign: Campaign, message: Message) -> None:
    other = lifecycle.create_message("x@example.com", lifecycle.create_campaign("other").pk)
    by_id.mark("cli", EventKind.SENT, message.pk, "2024-01-15T10:00:00Z")
    by_id.mark("cli", EventKind.OPENED, message.pk, "2024-01-15T11:00:00Z")
    by_id.mark("python", EventKind.OPENED, other.pk, "2024-01-15T12:00:00Z")

    def found(options: str) -> list[tuple[int, str]]:
        return [(event["message_id"], event["kind"]) for event in cli(f"email-tracking-cli event list {options} --json").json]

    assert found("") == [(other.pk, "opened"), (message.pk, "opened"), (message.pk, "sent")]
    assert found(f"--campaign-id {campaign.pk}") == [(message.pk, "opened"), (message.pk, "sent")]
    assert found(f"--message-id {other.pk}") == [(other.pk, "opened")]
    assert found("--kind sent") == [(message.pk, "sent")]
    assert found("--verdict human") == [(other.pk, "opened"), (message.pk, "opened"), (message.pk, "sent")]
    assert found("--verdict scanner") == []
    assert found("--since 2024-01-15T11:00:00Z --until 2024-01-15T12:00:00Z") == [(message.pk, "opened")]
    assert found("--limit 1") == [(other.pk, "opened")]
    ran = cli("email-tracking-cli event list --limit 2")
    assert (ran.out.count("opened"), ran.err) == (2, "The latest 2; --limit shows more\n")
    ran = cli("email-tracking-cli event list --limit 3")
    assert (ran.out.count("2024-01-15"), ran.err) == (3, "")


def test_long_texts_are_cut_in_tables_and_whole_in_json(cli: Cli, campaign: Campaign, message: Message) -> None:
    url, agent = "https://e.example/" + "x" * 7900, "Mozilla/5.0 " + "y" * 1000
    apply([TrackingEvent(EventKind.OPENED, now_ms(), "hit", message_id=message.pk, user_agent=agent)])
    by_id.mark("cli", EventKind.CLICKED, message.pk, url=url)
    by_id.mark("cli", EventKind.BOUNCED, message.pk, reason="r" * 1000)
    DeadLetter.objects.create(segment="s", position=0, line=b"z" * 5000, error="e" * 1000)
    for line in (f"message show {message.pk}", "event list", "report bounces", f"report links {campaign.pk}", "ingest dead-letters"):
        table = [row for row in cli(f"email-tracking-cli {line}").out.splitlines() if row.startswith("│")]
        assert max(map(len, table)) < 330, line
        assert any("…" in row for row in table), line
    told = {event["url"] or event["user_agent"] for event in cli("email-tracking-cli event list --json").json}
    assert told == {url, agent, None}
    assert cli("email-tracking-cli report bounces --json").json["messages"][0]["bounce_reason"] == "r" * 1000
    assert cli(f"email-tracking-cli report links {campaign.pk} --json").json[0]["url"] == url
    (letter,) = cli("email-tracking-cli ingest dead-letters --json").json
    assert (len(letter["line"]), len(letter["error"])) == (5000, 1000)


def test_a_short_text_is_shown_whole() -> None:
    assert [output.short(text, 3) for text in (None, "", "abc", "abcd")] == [None, "", "abc", "ab…"]
