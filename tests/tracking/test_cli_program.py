"""The command line as a process: the script on the path, pipes, signals, an unusable database, the shell's Tab key."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tracking.conftest import Program, Ran

MANAGE = str(Path(__file__).resolve().parents[2] / "manage.py")


def test_a_first_session_as_it_is_typed(program: Program) -> None:
    assert program.type('email-tracking-cli campaign create --name "Summer Sale 2024" --template-id 5') == Ran(
        0, "Created campaign 1: Summer Sale 2024\n", ""
    )
    assert program.type("email-tracking-cli message create --campaign-id 1 --email user@example.com --token custom-token-123").status == 0
    assert program.type("email-tracking-cli message mark-sent 1") == Ran(0, "Marked message 1 as sent\n", "")
    assert "│  1 │ Summer Sale 2024   │     1 │    1 │" in program.type("email-tracking-cli campaign list").out
    assert program.type("email-tracking-cli campaign export 1 --output campaign_1.csv").status == 0
    assert (program.folder / "campaign_1.csv").read_bytes().count(b"\r\n") == 2
    assert program.type("email-tracking-cli report summary").out.startswith("=== Email Tracking Summary ===\nTotal Campaigns: 1\n")
    assert program.run(sys.executable, MANAGE, "tracking", "campaign", "list").out == program.type("email-tracking-cli campaign list").out
    assert program.type("email-tracking-cli campaign delete 1", stdin=subprocess.DEVNULL).status == 1
    assert program.type("email-tracking-cli campaign delete 1", answers="y\n").status == 0


def test_manage_py_is_the_same_tree_under_its_own_name(program: Program) -> None:
    ours = program.type("email-tracking-cli report --help").out
    theirs = program.run(sys.executable, MANAGE, "tracking", "report", "--help", "--settings=trackingsite.settings").out
    assert theirs == ours.replace("email-tracking-cli", "manage.py tracking")
    ran = program.run(sys.executable, MANAGE, "tracking", "campaign", "show")
    assert ran == Ran(2, "", "manage.py tracking campaign show: Missing argument 'CAMPAIGN'. (--help explains)\n")


@pytest.mark.parametrize("line", ["--help", "campaign --help", "campaign list --help", "--version", "ingest run --help"])
def test_help_needs_no_database(program: Program, line: str) -> None:
    ran = program.type(f"email-tracking-cli {line}", env=program.unusable())
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(("Usage: email-tracking-cli", "email-tracking-cli 0."))


def test_an_unusable_database_is_one_line(program: Program) -> None:
    ran = program.type("email-tracking-cli campaign list", env=program.unusable())
    assert (ran.status, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert ran.err.startswith(f"error: TRACKING_DB_PATH: the folder {program.folder}/file cannot be made")


def test_a_wrong_setting_is_one_line(program: Program) -> None:
    ran = program.type("email-tracking-cli campaign list", env={**program.environment, "TRACKING_PORT": "many"})
    assert ran == Ran(1, "", "error: TRACKING_PORT: must be a number from 1 to 65535, not 'many'\n")


def test_a_reader_who_leaves_is_no_error(program: Program) -> None:
    program.type("email-tracking-cli campaign create --name x")
    process = program.start("email-tracking-cli", "campaign", "export", "1")
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    assert process.wait(60) == 141


def test_a_full_disk_is_one_line(program: Program) -> None:
    with open("/dev/full", "w") as full:
        process = program.start("email-tracking-cli", "campaign", "list", "--json", stdout=full)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "error: No space left on device\n")


def test_closed_streams_are_no_error(program: Program) -> None:
    assert program.run("sh", "-c", "email-tracking-cli campaign list >&- 2>&- <&-") == Ran(0, "", "")


def test_a_terminal_without_utf8_gets_what_it_can_show(program: Program) -> None:
    environment = {**program.environment, "PYTHONIOENCODING": "ascii"}
    program.type("email-tracking-cli campaign create --name 夏")
    out = program.type("email-tracking-cli campaign list", env=environment).out
    assert out.isascii()
    assert "| Name" in out


def test_ctrl_c_at_a_question_ends_quietly(program: Program) -> None:
    program.type("email-tracking-cli campaign create --name x")
    process = program.start("email-tracking-cli", "campaign", "delete", "1")
    assert process.stderr
    asked = b""
    while not asked.endswith(b"[y/N] "):
        asked += os.read(process.stderr.fileno(), 100)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 130


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_ingest_run_stops_cleanly(program: Program, number: int, status: int) -> None:
    process = program.start("email-tracking-cli", "ingest", "run")
    assert process.stderr
    assert process.stderr.readline() == "taking hits in; Ctrl-C stops\n"
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == status


def complete(program: Program, *words: str) -> list[str]:
    """What bash would offer, by the script that --show-completion prints."""
    environment = {**program.unusable(), "SHELL": "/bin/bash"}
    script = program.type("email-tracking-cli --show-completion", env=environment).out
    typed = " ".join(f"'{word}'" for word in words)
    script += f'\nCOMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _email_tracking_cli_completion {words[0]}; echo "${{COMPREPLY[@]}}"'
    return program.run("bash", "-c", script, env=environment).out.split()


def test_bash_completes_commands_options_and_values(program: Program) -> None:
    assert complete(program, "email-tracking-cli", "camp") == ["campaign"]
    assert complete(program, "email-tracking-cli", "report", "") == ["summary", "bounces", "links", "timeline"]
    assert complete(program, "email-tracking-cli", "message", "mark-bounced", "--ty") == ["--type"]
    assert complete(program, "email-tracking-cli", "message", "mark-bounced", "--type", "t") == ["temporary"]


def test_completion_installs_itself(program: Program) -> None:
    environment = {**program.environment, "SHELL": "/bin/bash", "HOME": str(program.folder)}
    ran = program.run("bash", "-c", "email-tracking-cli --install-completion; true", env=environment)
    script = program.folder / ".bash_completions" / "email-tracking-cli.sh"
    assert ran.out == f"Installed for bash in {script}; it works in the next shell you open\n"
    assert str(script) in (program.folder / ".bashrc").read_text()
    assert "_email_tracking_cli_completion" in script.read_text()


def test_nothing_is_left_beside_the_database_by_help(program: Program) -> None:
    program.type("email-tracking-cli --help")
    assert not (program.folder / "tracking.db").exists()
    assert {path.name for path in program.folder.iterdir()} <= {"tracking.db-keys"}
