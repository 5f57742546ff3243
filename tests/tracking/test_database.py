from __future__ import annotations

import datetime as dt
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from django.conf import settings

from campaigns.events import EventKind, now_ms
from campaigns.models import Campaign, Event, Message
from campaigns.rules import Refused
from tests.tracking.conftest import Program
from tracking import Database, database
from tracking.spool import writer
from tracking.spool.lines import hit_line


@pytest.fixture
def tracking_db(db: None, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setattr(database, "_started", True)
    return Database()


def test_the_guides_calls_track_a_message(tracking_db: Database) -> None:
    campaign_id = tracking_db.create_campaign("Product Launch")
    message_id = tracking_db.create_message(
        campaign_id=campaign_id, recipient_email="customer@example.com", tracking_token="unique-token-123"
    )
    tracking_db.update_message_sent(message_id)
    message = tracking_db.get_message(message_id)
    assert (message["status"], message["tracking_token"], message["campaign_id"]) == ("sent", "unique-token-123", campaign_id)
    campaign = tracking_db.get_campaign(campaign_id)
    assert (campaign["name"], campaign["metrics"]["sent"], campaign["metrics"]["queued"]) == ("Product Launch", 1, 0)
    assert Event.objects.get().source_word == "python"


def test_every_mark_is_applied(tracking_db: Database, message: Message) -> None:
    moment = dt.datetime(2024, 1, 15, 12, 36, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    tracking_db.update_message_sent(message.pk, at=moment)
    tracking_db.update_message_delivered(message.pk, at="2024-01-15T10:37:00Z")
    tracking_db.update_message_opened(message.pk, at=dt.datetime(2024, 1, 15, 10, 38))
    tracking_db.update_message_clicked(message.pk, url="https://example.com/offer")
    tracking_db.update_message_bounced(message.pk, reason="Mailbox full", bounce_type="temporary", diagnostic_code="smtp; 452")
    found = tracking_db.get_message(message.pk)
    assert [found[f"{name}_at"] for name in ("sent", "delivered", "opened")] == [f"2024-01-15T10:3{n}:00Z" for n in (6, 7, 8)]
    assert (found["status"], found["bounce_type"], found["bounce_reason"], found["diagnostic_code"]) == (
        "clicked", "temporary", "Mailbox full", "smtp; 452",
    )  # fmt: skip


def test_a_bounce_is_permanent_unless_said(tracking_db: Database, message: Message) -> None:
    tracking_db.update_message_bounced(message.pk, "User unknown")
    assert tracking_db.get_message(message.pk)["bounce_type"] == "permanent"
    assert tracking_db.get_campaign(message.campaign_id)["metrics"]["bounce_reasons"] == {"User unknown": 1}


def test_many_messages_come_back_in_their_order(tracking_db: Database, campaign: Campaign) -> None:
    ids = tracking_db.create_messages([{"campaign_id": campaign.pk, "recipient_email": f"user{n}@example.com"} for n in range(3)])
    found = tracking_db.get_campaign_messages(campaign.pk)
    assert [(message["id"], message["recipient_email"]) for message in found] == [(pk, f"user{n}@example.com") for n, pk in enumerate(ids)]
    assert [message["id"] for message in tracking_db.get_campaign_messages(campaign.pk, limit=1, offset=1)] == [ids[1]]


def test_campaigns_are_listed_and_deleted(tracking_db: Database) -> None:
    first, second = tracking_db.create_campaign("a", 5, ["x"], {"k": 1}), tracking_db.create_campaign("b")
    assert [each["id"] for each in tracking_db.get_campaigns()] == [second, first]
    assert [each["id"] for each in tracking_db.get_campaigns(limit=1, offset=1)] == [first]
    tracking_db.delete_campaign(first)
    with pytest.raises(Refused, match=f"there is no campaign {first}"):
        tracking_db.get_campaign(first)


def test_a_hit_answered_before_is_in_the_next_reading(tracking_db: Database, message: Message) -> None:
    writer.process_writer(settings.CONF.spool_dir).append_many([hit_line(EventKind.OPENED, "uuid-token", now_ms())])
    assert tracking_db.get_message(message.pk)["open_count"] == 1


@pytest.mark.parametrize("pk", [0, -1, 99, 2**70])
def test_unknown_ids_are_refused_as_not_found(tracking_db: Database, pk: int) -> None:
    for call in (tracking_db.get_message, tracking_db.update_message_sent, tracking_db.get_campaign, tracking_db.delete_campaign):
        with pytest.raises(Refused, match=f"there is no (message|campaign) {pk}") as caught:
            call(pk)
        assert caught.value.status == 404


@pytest.mark.parametrize("pk", ["1", None, 1.0, True])
def test_what_is_no_id_is_refused(tracking_db: Database, pk: object) -> None:
    for call in (tracking_db.get_message, tracking_db.update_message_sent, tracking_db.get_campaign):
        with pytest.raises(ValueError, match="is a whole number"):
            call(pk)  # type: ignore[arg-type]


def test_bad_values_are_refused_with_a_sentence(tracking_db: Database, message: Message) -> None:
    with pytest.raises(ValueError, match="a campaign needs a name"):
        tracking_db.create_campaign("")
    with pytest.raises(ValueError, match="needs a recipient_email"):
        tracking_db.create_message(message.campaign_id)
    with pytest.raises(ValueError, match="is taken"):
        tracking_db.create_message(message.campaign_id, "a@example.com", "uuid-token")
    with pytest.raises(ValueError, match="item 0: bcc is no field"):
        tracking_db.create_messages([{"bcc": "x"}])
    with pytest.raises(ValueError, match="permanent or temporary"):
        tracking_db.update_message_bounced(message.pk, bounce_type="soft")
    with pytest.raises(ValueError, match="write a date and time"):
        tracking_db.update_message_sent(message.pk, at="yesterday")
    with pytest.raises(ValueError, match="24 hours ahead"):
        tracking_db.update_message_sent(message.pk, at=dt.datetime.now() + dt.timedelta(days=3))
    with pytest.raises(ValueError, match="http or https"):
        tracking_db.update_message_clicked(message.pk, url="ftp://example.com")
    with pytest.raises(ValueError, match="limit is a whole number"):
        tracking_db.get_campaigns(limit=-1)


def test_links_are_signed(tracking_db: Database) -> None:
    assert tracking_db.pixel_url("uuid-token").endswith("/track/pixel/uuid-token")
    link = tracking_db.link_url("uuid-token", "https://example.com/offer?a=1&b=2")
    assert "/track/redirect/uuid-token?url=https%3A%2F%2Fexample.com%2Foffer%3Fa%3D1%26b%3D2" in link
    assert "sig=" in link


# -- in processes of their own


GUIDE = """
import urllib.parse
import uuid
from tracking import Database

db = Database()

# Create campaign
campaign_id = db.create_campaign("Weekly Newsletter")

# Create message with tracking token
token = str(uuid.uuid4())
message_id = db.create_message(
    campaign_id=campaign_id,
    recipient_email="user@example.com",
    tracking_token=token
)

# In email HTML body:
tracking_pixel = f'<img src="http://tracking.example.com/track/pixel/{token}" width="1" height="1" />'

# Transform links:
original_url = "https://example.com/offer"
tracking_url = f'http://tracking.example.com/track/redirect/{token}?url={urllib.parse.quote(original_url)}'
db.update_message_sent(message_id)
print(campaign_id, message_id, db.get_message(message_id)["status"])
"""


def test_a_plain_script_in_any_folder_needs_nothing(program: Program, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    ran = program.python(GUIDE, cwd=tmp_path / "elsewhere")
    assert (ran.out, ran.err) == ("1 1 sent\n", "")


def test_a_notebooks_event_loop_is_no_obstacle(program: Program) -> None:
    ran = program.python(
        textwrap.dedent("""
            import asyncio
            from tracking import Database

            async def cell():
                db = Database()
                message_id = db.create_message(recipient_email="user@example.com")
                db.update_message_opened(message_id)
                try:
                    db.get_message(7)
                except ValueError as error:
                    print(error)
                return db.get_message(message_id)["status"]

            print(asyncio.run(cell()))
            print(Database().get_message(1)["status"])
        """)
    )
    assert (ran.out, ran.err) == ("there is no message 7\nopened\nopened\n", "")


def test_threads_and_children_share_one_database(program: Program) -> None:
    ran = program.python(
        textwrap.dedent("""
            import os
            from concurrent.futures import ThreadPoolExecutor
            from tracking import Database

            db = Database()
            message_id = db.create_message(recipient_email="user@example.com")
            children = []
            for _ in range(3):
                pid = os.fork()
                if not pid:
                    db.update_message_opened(message_id)
                    os._exit(0)
                children.append(pid)
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: db.update_message_opened(message_id), range(20)))
            assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
            print(db.get_message(message_id)["open_count"])
        """)
    )
    assert (ran.out, ran.err) == ("23\n", "")


def test_the_callers_logging_is_left_alone(program: Program) -> None:
    ran = program.python("import logging\nfrom tracking import Database\nDatabase()\nprint(logging.getLogger().handlers)")
    assert (ran.out, ran.err) == ("[]\n", "")


@pytest.mark.parametrize(
    "configured", ["settings.configure(INSTALLED_APPS=['django.contrib.auth'])", "settings.configure(); django.setup()"]
)
def test_another_django_project_is_told_what_it_lacks(program: Program, configured: str) -> None:
    ran = program.python(f"import django\nfrom django.conf import settings\n{configured}\nfrom tracking import Database\nDatabase()")
    assert ran.status == 1
    said = ran.err.strip().splitlines()[-1]
    assert said.startswith("RuntimeError: this Django project")
    for word in ("'campaigns' and 'tracking' in INSTALLED_APPS", "HTTP API"):
        assert word in said


def test_another_projects_settings_module_is_told_too(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mysite.py").write_text("SECRET_KEY = 'x'\nINSTALLED_APPS = ['campaigns']\n")
    environment = {**program.environment, "DJANGO_SETTINGS_MODULE": "mysite", "PYTHONPATH": str(tmp_path)}
    ran = program.python("from tracking import Database\nDatabase()", env=environment)
    assert (
        ran.err.strip().splitlines()[-1].startswith("RuntimeError: this Django project (mysite) lacks what tracking needs: 'tracking' in")
    )


def test_a_path_names_the_file_once(program: Program, tmp_path: Path) -> None:
    ran = program.python(
        textwrap.dedent("""
            from tracking import Database

            Database("other.db").create_campaign("x")
            Database("./other.db")
            Database()
            try:
                Database("third.db")
            except RuntimeError as error:
                print(error)
        """)
    )
    assert ran.err == ""
    assert ran.out == f"this process works on {tmp_path}/other.db and can on no other; for {tmp_path}/third.db start another\n"
    assert (tmp_path / "other.db").exists()
    assert not (tmp_path / "third.db").exists()


def test_an_address_is_no_path(tracking_db: Database) -> None:
    with pytest.raises(ValueError, match="HTTP API"):
        Database("https://tracking.example.com")


def test_an_unusable_database_and_a_wrong_setting_are_one_line(program: Program) -> None:
    script = "from tracking import Database, prepare\ntry:\n    Database()\nexcept RuntimeError as error:\n    print(error)"
    nowhere = program.python(script, env=program.unusable())
    assert nowhere.out.startswith(f"TRACKING_DB_PATH: the folder {program.folder}/file cannot be made")
    wrong = program.python(script, env={**program.environment, "TRACKING_PORT": "many"})
    assert wrong.out == "TRACKING_PORT: must be a number from 1 to 65535, not 'many'\n"


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = "import sys, tracking\nprint(sorted({'django', 'tracking.database', 'typer'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
