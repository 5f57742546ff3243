from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection

from campaigns import partitions
from campaigns.apply import apply
from campaigns.events import EventKind, TrackingEvent
from campaigns.models import Event, Message
from campaigns.times import parse_moment, to_ms
from tests.tracking.conftest import Ran

Cli = Callable[..., Ran]
LINE = "email-tracking-cli maintenance partitions"
on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no partitions")


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    now = to_ms(parse_moment("2026-03-10T12:00:00Z"))
    monkeypatch.setattr(partitions, "now_ms", lambda: now)


@pytest.fixture
def events(message: Message) -> None:
    """One in January and one in March 2026."""
    for at in ("2026-01-05", "2026-03-10"):
        apply([TrackingEvent(EventKind.OPENED, to_ms(parse_moment(at)), "hit", message_id=message.pk)])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE events")  # PostgreSQL's estimate stays when a test's rows are rolled back


@pytest.mark.skipif(connection.vendor == "postgresql", reason="of SQLite")
@pytest.mark.parametrize("options", ["", " --ahead 3", " --drop-before 2026-02-01 --yes"])
def test_on_sqlite_there_is_nothing_to_do(cli: Cli, events: None, options: str) -> None:
    assert cli(LINE + options) == Ran(0, "SQLite has no partitions: nothing to do\n", "")
    assert cli(f"{LINE}{options} --json").json == {"partitions": [], "made": [], "dropped": []}
    assert Event.objects.count() == 2


@on_postgresql
def test_a_list_changes_nothing(cli: Cli, events: None) -> None:
    ran = cli(LINE)
    assert ran.status == 0
    assert [cell.strip() for cell in ran.out.splitlines()[3].split("│")[1:5]] == ["events_default", "-", "-", "2"]
    listed = cli(f"{LINE} --json").json
    assert (listed["made"], listed["dropped"]) == ([], [])
    (default,) = listed["partitions"]
    assert default.pop("bytes") > 0
    assert default == {"name": "events_default", "from": None, "to": None, "events": 2}


@on_postgresql
def test_partitions_are_made_and_dropped_after_a_question(cli: Cli, events: None) -> None:
    ran = cli(f"{LINE} --ahead 1")
    assert ran.out.splitlines()[0] == "Made 3 partitions: events_2026_01, events_2026_03, events_2026_04"
    assert "│ events_2026_01 │ 2026-01-01 00:00:00 │ 2026-02-01 00:00:00 │      1 │" in ran.out
    refused = cli(f"{LINE} --drop-before 2026-02-15")
    assert (refused.status, Event.objects.count()) == (1, 2)
    assert refused.err.splitlines() == ["Drop events_2026_01 with about 1 event? [y/N] ", "error: aborted"]
    assert cli(f"{LINE} --drop-before 2026-02-15", answers="y\n").out.splitlines()[0] == "Dropped 1 partition: events_2026_01"
    assert Event.objects.count() == 1
    again = cli(f"{LINE} --drop-before 2026-02-15 --json").json
    assert (again["dropped"], len(again["partitions"])) == ([], 3)
    assert cli("email-tracking-cli maintenance recount --json").json == []


@on_postgresql
def test_made_and_dropped_in_one_go_as_by_cron(cli: Cli, events: None) -> None:
    done = cli(f"{LINE} --ahead 2 --by day --drop-before 2026-02-01 --yes --json").json
    assert done["made"] == ["events_2026_01", "events_2026_03_10", "events_2026_03_11", "events_2026_03_12"]
    assert done["dropped"] == ["events_2026_01"]


@on_postgresql
def test_what_stays_in_the_default_partition_is_told(cli: Cli, events: None) -> None:
    ran = cli(f"{LINE} --drop-before 2026-02-01 --yes")
    assert ran.err == "2 events in events_default stay; --ahead 0 makes partitions of them first\n"
    assert Event.objects.count() == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--by day", "--by: it goes with --ahead"),
        ("--by year --ahead 1", "'year' is not one of 'month', 'day'"),
        ("--ahead -1", "-1 is not in the range"),
        ("--drop-before 9999-01-01", "--drop-before: it is in the future"),
        ("--drop-before yesterday", "'--drop-before': write a date and time such as"),
    ],
)
def test_a_slip_is_one_line(cli: Cli, options: str, reason: str) -> None:
    ran = cli(f"{LINE} {options}")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert reason in ran.err
