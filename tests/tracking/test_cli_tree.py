"""The tree as a whole: help, `--json`, errors and exit statuses, the same for every command."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError

from campaigns.models import Campaign, Message
from tests.tracking import cli_reference
from tests.tracking.conftest import Ran
from tracking.cli import base
from tracking.prepare import NotReady

Cli = Callable[..., Ran]

#: A loop has no result.
PRINT_NO_RESULT = {"ingest run"}

GROUPS = {
    "campaign": "create list show messages export archive delete",
    "message": "create show mark-sent mark-delivered mark-opened mark-clicked mark-bounced",
    "report": "summary bounces links timeline",
    "event": "list",
    "ingest": "run drain status dead-letters",
    "maintenance": "recount partitions",
    "key": "create list revoke rotate-links",
}


@pytest.fixture(scope="module")
def leaves() -> dict[str, object]:
    return {" ".join(path[1:]): command for path, command, _ in cli_reference.commands() if not hasattr(command, "commands")}


def test_the_tree_has_every_command(leaves: dict[str, object]) -> None:
    assert set(leaves) == {f"{group} {name}" for group, names in GROUPS.items() for name in names.split()}


def test_every_command_that_prints_a_result_takes_json(leaves: dict[str, object]) -> None:
    without = {name for name, leaf in leaves.items() if not any("--json" in param.opts for param in leaf.params)}  # type: ignore[attr-defined]
    assert without == PRINT_NO_RESULT


def test_everything_has_a_help_text() -> None:
    for path, command, _ in cli_reference.commands():
        assert command.help, path
        for param in command.params:
            assert getattr(param, "help", None), (path, param.name)


def test_djangos_own_options_are_in_no_help() -> None:
    for path, _, context in cli_reference.commands():
        for option in ("--settings", "--pythonpath", "--traceback", "--no-color", "--force-color", "--skip-checks", "--verbosity"):
            assert option not in context.get_help(), path


def test_the_reference_is_current() -> None:
    assert cli_reference.PAGE.read_text() == cli_reference.page(), "python -m tests.tracking.cli_reference writes it again"


JSON_LINES = [
    "campaign list",
    "campaign show {campaign}",
    "campaign messages {campaign}",
    "campaign create --name x",
    "campaign archive {campaign}",
    "campaign delete {campaign} --yes",
    "message create --email a@example.com",
    "message show {message}",
    *(f"message mark-{kind} {{message}}" for kind in ("sent", "delivered", "opened", "clicked", "bounced")),
    "report summary",
    "report bounces",
    "report links {campaign}",
    "report timeline {campaign}",
    "event list",
    "ingest drain",
    "ingest status",
    "ingest dead-letters",
    "ingest dead-letters replay",
    "ingest dead-letters purge",
    "maintenance recount",
    "maintenance partitions",
]


@pytest.mark.parametrize("line", JSON_LINES)
def test_json_is_json_and_nothing_else(cli: Cli, message: Message, line: str) -> None:
    ran = cli(f"email-tracking-cli {line.format(campaign=message.campaign_id, message=message.pk)} --json")
    assert (ran.status, ran.err) == (0, "")
    json.loads(ran.out)


REFUSED = [
    ("campaign show 99", "there is no campaign 99"),
    ("campaign show 999999999999999999999999", "there is no campaign 999999999999999999999999"),
    ("campaign show 0", "there is no campaign 0"),
    ("campaign messages 99", "there is no campaign 99"),
    ("campaign export 99", "there is no campaign 99"),
    ("campaign archive 99", "there is no campaign 99"),
    ("report links 99", "there is no campaign 99"),
    ("report timeline 99", "there is no campaign 99"),
    ("report bounces --campaign-id 99", "there is no campaign 99"),
    ("event list --campaign-id 99", "there is no campaign 99"),
    ("event list --message-id 99", "there is no message 99"),
    ("maintenance recount 99", "there is no campaign 99"),
    ("message show 99", "there is no message 99"),
    ("message mark-sent 99", "there is no message 99"),
    ("message mark-bounced 999999999999999999999999", "there is no message 999999999999999999999999"),
    ("campaign create --name ''", "a campaign needs a name"),
    ("campaign create --name x --template-id 99999999999999999999", "a template_id is a whole number"),
    ("campaign create --name x --metadata '[1]'", "metadata is a JSON object"),
    ("message create --email nobody", "'nobody' is no e-mail address"),
    ("message create --email a@example.com --campaign-id 99", "there is no campaign 99"),
    ("message create --email a@example.com --token a/b", "a tracking_token is 1 to 128 of"),
    ("campaign export {campaign} --output /nowhere/x.csv", "/nowhere/x.csv: No such file or directory"),
    ("message mark-clicked {message} --url javascript:alert(1)", "url is an http or https address"),
    ("message create --email a@example.com --token uuid-token", "the tracking_token 'uuid-token' is taken"),
]


@pytest.mark.parametrize(("line", "said"), REFUSED)
def test_what_is_refused_is_one_line_and_status_1(cli: Cli, message: Message, line: str, said: str) -> None:
    ran = cli(f"email-tracking-cli {line.format(campaign=message.campaign_id, message=message.pk)}")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {said}")
    assert ran.err.count("\n") == 1


MISTYPED = [
    ("", "email-tracking-cli: which command? campaign, message, report"),
    ("campaign", "email-tracking-cli campaign: which command? create, list, show"),
    ("nonsense", "email-tracking-cli: No such command 'nonsense'"),
    ("campaign lst", "email-tracking-cli campaign: No such command 'lst'. Did you mean 'list'?"),
    ("campaign show", "email-tracking-cli campaign show: Missing argument 'CAMPAIGN'"),
    ("campaign show one", "email-tracking-cli campaign show: Invalid value for 'CAMPAIGN'"),
    ("campaign create", "email-tracking-cli campaign create: Missing option '--name'"),
    ("campaign create --name x --metadata {{", "email-tracking-cli campaign create: Invalid value for --metadata: it is no JSON: "),
    ("campaign list --nonsense", "email-tracking-cli campaign list: No such option: --nonsense"),
    ("campaign list extra", "email-tracking-cli campaign list: Got unexpected extra argument"),
    ("campaign messages 1 --limit 0", "email-tracking-cli campaign messages: Invalid value for '--limit'"),
    ("campaign messages 1 --status sending", "email-tracking-cli campaign messages: Invalid value for '--status'"),
    ("campaign export 1 --json", "email-tracking-cli campaign export: Invalid value for --json: it tells"),
    ("campaign export 1 --output /", "email-tracking-cli campaign export: Invalid value for '--output'"),
    ("message create", "email-tracking-cli message create: Missing option '--email'"),
    ("message mark-bounced 1 --type soft", "email-tracking-cli message mark-bounced: Invalid value for '--type'"),
    ("message mark-sent 1 --at yesterday", "email-tracking-cli message mark-sent: Invalid value for '--at': write a date and time"),
    ("message mark-sent 1 --at 2099-01-01", "email-tracking-cli message mark-sent: Invalid value for '--at': it is more than 24 hours"),
    ("message mark-sent 1 --at 1969-01-01", "email-tracking-cli message mark-sent: Invalid value for '--at': times begin in 1970"),
    ("report timeline 1 --interval week", "email-tracking-cli report timeline: Invalid value for '--interval'"),
    ("event list --kind seen", "email-tracking-cli event list: Invalid value for '--kind'"),
    ("event list --since x", "email-tracking-cli event list: Invalid value for '--since'"),
    ("ingest dead-letters burn", "email-tracking-cli ingest dead-letters: Invalid value for"),
    ("--settings", "email-tracking-cli: argument --settings: expected one argument"),
]


@pytest.mark.parametrize(("line", "said"), MISTYPED)
def test_what_is_not_understood_is_one_line_and_status_2(cli: Cli, line: str, said: str) -> None:
    ran = cli(f"email-tracking-cli {line}")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(said)
    assert ran.err.count("\n") == 1


def test_a_line_not_understood_touches_no_database(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched() -> None:
        raise AssertionError

    monkeypatch.setattr(base, "prepare", touched)
    assert cli("email-tracking-cli campaign show").status == 2
    assert cli("email-tracking-cli campaign show --help").status == 0
    assert cli("email-tracking-cli message mark-sent 1 --at x").status == 2


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (NotReady("the folder is not there"), "error: the folder is not there\n"),
        (OperationalError("database\nis locked"), "error: the database cannot be used: database is locked\n"),
        (OSError(28, "No space left on device"), "error: No space left on device\n"),
        (ZeroDivisionError("x"), "error: this should not happen: ZeroDivisionError: x (--traceback shows where)\n"),
    ],
)
def test_our_own_failures_are_one_line_too(cli: Cli, monkeypatch: pytest.MonkeyPatch, failure: Exception, said: str) -> None:
    def fail() -> None:
        raise failure

    monkeypatch.setattr(base, "prepare", fail)
    assert cli("email-tracking-cli campaign list") == Ran(1, "", said)


def test_traceback_is_given_on_request(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(base, "prepare", fail)
    with pytest.raises(ZeroDivisionError):
        cli("email-tracking-cli campaign list --traceback")


def test_a_value_may_look_like_an_option_after_two_dashes(cli: Cli, campaign: Campaign) -> None:
    assert cli("email-tracking-cli campaign show -- --settings").status == 2
    assert cli(f"email-tracking-cli campaign show -- {campaign.pk}").status == 0


def test_help_says_the_name_it_was_called_by(cli: Cli) -> None:
    assert cli("email-tracking-cli campaign create --help").out.startswith("Usage: email-tracking-cli campaign create [OPTIONS]\n")
    assert "Created" not in cli("email-tracking-cli --help").out


def test_call_command_works_and_raises_djangos_errors(
    db: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(base, "prepare", lambda: None)
    call_command("tracking", "campaign", "create", "--name", "from Django")
    assert "from Django" in capsys.readouterr().out
    with pytest.raises(CommandError):
        call_command("tracking", "campaign", "create")
