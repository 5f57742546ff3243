"""One mail's whole life: sent over SMTP, opened and clicked in a browser, seen on the dashboard, exported."""

from __future__ import annotations

import csv
import io
import smtplib
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import chromium, missing, watch
from tests.tracking.running import RunningServer, free_port

SEND = """
from tracking import Database
db = Database()
campaign_id = db.create_campaign("Weekly Newsletter")
message_id = db.create_message(campaign_id=campaign_id, recipient_email="user@example.com", tracking_token="a-real-mail")
print(db.pixel_url("a-real-mail"))
print(db.link_url("a-real-mail", {target!r}))
"""


@pytest.fixture
def target() -> Iterator[str]:
    """Where the mail's link goes."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><link rel=icon href='data:,'><title>The offer</title><h1>The offer</h1>")

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/offer?a=1&b=ü x"
        server.shutdown()


@pytest.fixture
def mailbox() -> Iterator[tuple[int, list[Any]]]:
    """A local SMTP server: its port, and what it received."""
    try:
        from aiosmtpd.controller import Controller
        from aiosmtpd.handlers import Message
    except ImportError:
        missing("aiosmtpd (pip install -e '.[dev]')")
    received: list[Any] = []

    class Keep(Message):
        def handle_message(self, message: Any) -> None:
            received.append(message)

    controller = Controller(Keep(), hostname="127.0.0.1", port=free_port())
    controller.start()
    yield controller.port, received
    controller.stop()


@pytest.mark.browser
@pytest.mark.server
def test_a_real_mail_is_sent_opened_clicked_seen_and_exported(tmp_path: Path, target: str, mailbox: tuple[int, list[Any]]) -> None:
    with RunningServer(tmp_path) as server, chromium() as browser:
        said = subprocess.run(
            [sys.executable, "-c", SEND.format(target=target)],
            env=server.environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        pixel, link = said.stdout.split()

        mail = EmailMessage()
        mail["Subject"], mail["From"], mail["To"] = "The offer", "news@example.com", "user@example.com"
        mail.set_content("The offer")
        mail.add_alternative(
            f'<h1>Hello</h1><a id="offer" href="{link}">The offer</a><img src="{pixel}" alt="" width="1" height="1" />', subtype="html"
        )
        port, received = mailbox
        with smtplib.SMTP("127.0.0.1", port) as smtp:
            smtp.send_message(mail)
        assert server.post("/api/messages/1/sent", {}).status == 200

        html = received[0].get_payload()[1].get_payload(decode=True)
        (tmp_path / "mail.html").write_bytes(html)
        page = browser.new_page()
        page.goto((tmp_path / "mail.html").as_uri(), wait_until="networkidle")
        assert server.get("/api/messages/1").json()["status"] == "opened"
        page.click("#offer")
        page.wait_for_url("**/offer**")
        assert page.title() == "The offer"

        complaints = watch(page)
        page.goto(f"{server.base_url}/dashboard")
        row = page.locator("table tbody tr", has_text="Weekly Newsletter").first
        assert "100" in row.inner_text()
        page.get_by_role("link", name="Weekly Newsletter").first.click()
        page.get_by_role("link", name="user@example.com").first.click()
        text = page.locator("main").inner_text()
        assert "clicked" in text.lower()
        assert "/offer?a=1" in text
        page.go_back()
        with page.expect_download() as download:
            page.locator("a[href$='/export']").first.click()
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
        assert complaints == []

    assert len(rows) == 1
    assert (rows[0]["recipient_email"], rows[0]["status"], rows[0]["open_count"], rows[0]["click_count"]) == (
        "user@example.com",
        "clicked",
        "1",
        "1",
    )
