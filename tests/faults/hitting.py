"""Readers of mails: hits in a loop, and what the server answered."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable


class Hits:
    """Fetches the pixels of some tokens in turn until stopped, over a few connections, at a rate if one is given. With `links`
    (paths by token) it follows those instead.

    `answered` counts, by token, the pixels that came whole, or the redirects; a hit whose connection broke may or may not have
    been written.
    """

    def __init__(
        self, port: int, tokens: list[str], threads: int = 4, rate: float | None = None, links: dict[str, str] | None = None
    ) -> None:
        self.port, self.tokens, self.links = port, tokens, links
        self.pause = threads / rate if rate else 0.0
        self.answered = dict.fromkeys(tokens, 0)
        self.broken = 0
        self.refused: list[int] = []
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]

    def __enter__(self) -> Hits:
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

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        due = time.monotonic()
        while not self._stop.is_set():
            token = self.tokens[number % len(self.tokens)]
            number += len(self._threads)
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
                    self.broken += 1
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
