"""Readers of mails: hits in a loop, what the server answered, and whether its SQLite file has each of them once."""

from __future__ import annotations

import http.client
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from campaigns.choices import KIND_NUMBER
from campaigns.events import EventKind
from tests.tracking.running import RunningServer, until

LINKS = "import sys; from tracking import Database; d = Database(); [print(d.link_url(t, 'https://example.com/')) for t in sys.argv[1:]]"


class Hits:
    """Fetches the pixels of some tokens in turn until stopped, over a few connections, at a rate if one is given. With `links`
    (paths by token) it follows those instead.

    `answered` counts, by token, the pixels that came whole, or the redirects; a hit whose connection broke (`unanswered`) may or
    may not have been written.
    """

    def __init__(
        self, port: int, tokens: list[str], threads: int = 4, rate: float | None = None, links: dict[str, str] | None = None
    ) -> None:
        self.port, self.tokens, self.links = port, tokens, links
        self.pause = threads / rate if rate else 0.0
        self.answered = dict.fromkeys(tokens, 0)
        self.unanswered = dict.fromkeys(tokens, 0)
        self.refused: list[int] = []
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._count = threads

    def __enter__(self) -> Hits:
        """Begin, or go on where it stopped."""
        self._stop.clear()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(self._count)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def count(self) -> int:
        return sum(self.answered.values())

    @property
    def broken(self) -> int:
        return sum(self.unanswered.values())

    def go_on(self, hits: int = 100) -> None:
        """Until so many more were answered."""
        before = self.count
        until(lambda: self.count >= before + hits, 60)

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        due = time.monotonic()
        while not self._stop.is_set():
            token = self.tokens[number % len(self.tokens)]
            number += self._count
            began = time.monotonic()
            try:
                path = self.links[token] if self.links else f"/track/pixel/{token}"
                connection.request("GET", path, headers={"User-Agent": "Mozilla/5.0"})
                response = connection.getresponse()
                body = response.read()
                right = response.status == 302 if self.links else response.status == 200 and len(body) == 43
            except (OSError, http.client.HTTPException):
                connection.close()
                with self._lock:
                    self.unanswered[token] += 1
                self._stop.wait(0.02)
                continue
            with self._lock:
                self.slowest = max(self.slowest, time.monotonic() - began)
                if right:
                    self.answered[token] += 1
                else:
                    self.refused.append(response.status)
            due += self.pause
            self._stop.wait(max(0.0, due - time.monotonic()))


def make_messages(server: RunningServer, tokens: list[str]) -> dict[str, str]:
    """A message for each token; returns the paths of a signed link of each."""
    campaign = server.post("/api/campaigns", {"name": "hits"}).json()["id"]
    items = [{"campaign_id": campaign, "recipient_email": f"{token}@example.com", "tracking_token": token} for token in tokens]
    assert server.post("/api/messages/bulk", items).status == 201
    made = subprocess.run(
        [sys.executable, "-c", LINKS, *tokens], env=server.environment(), capture_output=True, text=True, check=True, timeout=60
    )
    return {token: "/track/" + link.partition("/track/")[2] for token, link in zip(tokens, made.stdout.split(), strict=True)}


def wait_until_drained(server: RunningServer, seconds: float = 60) -> None:
    def drained() -> bool:
        reply = server.get_or_none("/api/campaigns")
        return reply is not None and reply.status == 200 and "tracking-pending" not in reply.headers

    until(drained, seconds)


def counted(server: RunningServer) -> tuple[dict[str, int], dict[str, int]]:
    """Opens and clicks by token, as the SQLite file has them now: messages, rows and hourly counts agree."""
    with sqlite3.connect(server.database) as database:
        database.execute("BEGIN")  # all look at the same moment
        messages = database.execute("SELECT tracking_token, open_count, click_count FROM messages").fetchall()
        rows = database.execute(
            "SELECT m.tracking_token, count(CASE e.kind WHEN ? THEN 1 END), count(CASE e.kind WHEN ? THEN 1 END)"
            " FROM messages m LEFT JOIN events e ON e.message_id = m.id GROUP BY m.id",
            (KIND_NUMBER[EventKind.OPENED], KIND_NUMBER[EventKind.CLICKED]),
        ).fetchall()
        hours = database.execute("SELECT coalesce(sum(n), 0) FROM hourly_counts").fetchone()[0]
    database.close()
    assert sorted(messages) == sorted(rows)
    assert hours == sum(opens + clicks for _, opens, clicks in messages)
    return {token: opens for token, opens, _ in messages}, {token: clicks for token, _, clicks in messages}


def check_each_once(server: RunningServer, pixels: Hits, clicks: Hits) -> None:
    """None of what was answered is missing, none is there twice; what was not answered may be there, once."""
    for hits, found in zip((pixels, clicks), counted(server), strict=True):
        assert hits.refused == []
        for token, answered in hits.answered.items():
            assert answered <= found[token] <= answered + hits.unanswered[token], token


def repeat(work: Callable[[], object], stop: threading.Event) -> tuple[threading.Thread, list[float], list[BaseException]]:
    """Do something again and again in a thread: the thread, how long each took in seconds, what was raised."""
    took: list[float] = []
    raised: list[BaseException] = []

    def run() -> None:
        while not stop.is_set():
            began = time.monotonic()
            try:
                work()
            except BaseException as error:
                raised.append(error)
            took.append(time.monotonic() - began)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, took, raised
