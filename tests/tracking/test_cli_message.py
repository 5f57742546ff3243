from __future__ import annotations

from collections.abc import Callable

import pytest
from django.conf import settings

from campaigns.apply import apply
from campaigns.events import EventKind, TrackingEvent, now_ms
from campaigns.models import Campaign, Event, Message
from tests.tracking.conftest import Ran
from tracking.cli import base
from tracking.spool import writer
from tracking.spool.lines import hit_line

Cli = Callable[..., Ran]


@pytest.fixture
def sample(campaign: Campaign) -> Message:
    return Message.objects.create(pk=1234, campaign=campaign, recipient_email="user@example.com", tracking_token="custom-token-123")


def test_created_message_is_named_with_its_token(cli: Cli, campaign: Campaign) -> None:
    ran = cli(
        f"""email-tracking-cli message create \\
              --campaign-id {campaign.pk} \\
              --email user@example.com \\
              --token custom-token-123"""
    )
    message = Message.objects.get()
    assert ran == Ran(0, f"Created message {message.pk} to user@example.com, token custom-token-123\n", "")
    assert (message.campaign_id, message.tracking_token, message.status) == (campaign.pk, "custom-token-123", "queued")


def test_message_without_campaign_and_token_gets_both(cli: Cli) -> None:
    made = cli("email-tracking-cli message create --email user@example.com --tag a --json").json
    assert Campaign.objects.get(pk=made["campaign_id"]).name == "default"
    assert (len(made["tracking_token"]), made["tags"]) == (36, ["a"])


@pytest.mark.parametrize(
    ("command", "status"),
    [("mark-sent", "sent"), ("mark-delivered", "delivered"), ("mark-opened", "opened"), ("mark-clicked", "clicked")],
)
def test_marks_change_the_message(cli: Cli, sample: Message, command: str, status: str) -> None:
    assert cli(f"email-tracking-cli message {command} 1234") == Ran(0, f"Marked message 1234 as {status}\n", "")
    event = Event.objects.select_related("judgement").get()
    assert (event.source_word, event.get_kind_display()) == ("cli", status)
    assert event.judgement
    assert (event.judgement.verdict, event.judgement.rule, event.judgement.confidence) == ("human", "manual", 1.0)
    later = cli(f"email-tracking-cli message {command} 1234 --at 2024-01-15T10:36:00 --json").json
    assert (later["status"], later[f"{status}_at"]) == (status, "2024-01-15T10:36:00Z")


def test_mark_bounced_with_type_and_reason_is_shown(cli: Cli, sample: Message) -> None:
    ran = cli('email-tracking-cli message mark-bounced 1234 --reason "User unknown" --type permanent')
    assert ran == Ran(0, "Marked message 1234 as bounced\n", "")
    out = cli("email-tracking-cli message show 1234").out
    assert "Bounce type:     permanent\n" in out
    assert "Bounce reason:   User unknown\n" in out
    assert "│ permanent: User unknown │" in out
    shown = cli("email-tracking-cli message show 1234 --json").json
    assert (shown["bounce_type"], shown["bounce_reason"], shown["status"]) == ("permanent", "User unknown", "bounced")
    assert [event["kind"] for event in shown["events"]] == ["bounced"]


def test_a_mark_that_does_not_show_in_the_status_says_so(cli: Cli, sample: Message) -> None:
    cli("email-tracking-cli message mark-opened 1234")
    ran = cli("email-tracking-cli message mark-bounced 1234 --type temporary --subtype full --diagnostic-code 'smtp; 452'")
    assert ran.out == "Marked message 1234 as bounced (its status is opened)\n"
    shown = cli("email-tracking-cli message show 1234 --json").json
    assert (shown["bounce_type"], shown["bounce_subtype"], shown["diagnostic_code"]) == ("temporary", "full", "smtp; 452")


def test_clicked_link_is_kept(cli: Cli, sample: Message) -> None:
    cli("email-tracking-cli message mark-clicked 1234 --url https://example.com/offer")
    assert "https://example.com/offer" in cli("email-tracking-cli message show 1234").out
    links = cli(f"email-tracking-cli report links {sample.campaign_id} --json").json
    assert [(link["url"], link["click_count"]) for link in links] == [("https://example.com/offer", 1)]


def test_message_show_lists_events_by_time(cli: Cli, sample: Message) -> None:
    for kind, at in (("opened", "2024-01-15T12:00:00Z"), ("sent", "2024-01-15T10:00:00Z"), ("delivered", "2024-01-15T13:00:00+02:00")):
        assert cli(f"email-tracking-cli message mark-{kind} 1234 --at {at}").status == 0
    out = cli("email-tracking-cli message show 1234").out
    times = [line.split("│")[1].strip() for line in out.splitlines() if "│ 2024" in line]
    assert times == ["2024-01-15 10:00:00", "2024-01-15 11:00:00", "2024-01-15 12:00:00"]


def test_message_show_points_to_more_events_only_where_there_are_more(cli: Cli, sample: Message) -> None:
    def opened(times: int) -> str:
        apply([TrackingEvent(EventKind.OPENED, now_ms(), "hit", message_id=1234) for _ in range(times)])
        return cli("email-tracking-cli message show 1234").err

    assert opened(100) == ""
    assert opened(1) == "The latest 100 events; `event list --message-id 1234 --limit 1000` shows more\n"
    assert len(cli("email-tracking-cli message show 1234 --json").json["events"]) == 100
    assert cli("email-tracking-cli event list --message-id 1234 --limit 1000").out.count("opened") == 101


def test_a_hit_answered_before_is_in_the_next_reading(cli: Cli, sample: Message) -> None:
    writer.process_writer(settings.CONF.spool_dir).append_many([hit_line(EventKind.OPENED, "custom-token-123", now_ms())])
    ran = cli("email-tracking-cli message show 1234 --json")
    assert (ran.json["status"], ran.json["open_count"], ran.err) == ("opened", 1, "")


def test_what_could_not_be_drained_in_time_is_noted(cli: Cli, sample: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracking.ingest.drain.drain", lambda budget: 77)
    ran = cli("email-tracking-cli message show 1234 --json")
    assert ran.json["id"] == 1234
    assert ran.err == f"77 bytes of hits are not counted yet; `{base.PROGRAM} ingest drain` takes them in\n"
