"""Numbers that all processes of an installation count together. Pure.

Each process counts in a page of memory of its own, a file in /dev/shm. Whoever asks adds the pages up. A dead process's page goes
into the totals in the spool's folder and is removed. So numbers outlive their process however it ends, never go back, and leave
one file.

Pages do not lie beside the spool, because a store into a mapped file on a full disk ends the process where the file system
copies on write, and a full disk is when losses are to be counted.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from tracking import private
from tracking.metrics.page import Page, pack, read_page

logger = logging.getLogger("tracking.metrics")

#: Where there is none (it is Linux's), pages are in the spool's folder.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
TOTALS = "counters.json"
#: How long the folder's lock is waited for, in seconds; after that the pages are added up as they are found.
PATIENCE = 1.0
#: Begins the names of numbers that hold only while their process lives.
HELD = "="
#: Begins the first name of a page, which is its spool's folder.
FOLDER = "/"


@dataclass
class Numbers:
    """`totals` by name over all processes that ever were; `held` what each living process says of itself."""

    totals: Counter[str] = field(default_factory=Counter)
    held: list[dict[str, int]] = field(default_factory=list)

    def take(self, page: dict[str, int], *, alive: bool) -> None:
        self.totals.update({name: n for name, n in page.items() if not name.startswith((HELD, FOLDER))})
        if alive:
            self.held.append({name.removeprefix(HELD): n for name, n in page.items() if name.startswith(HELD)})


class Counters:
    """What this process counts for a spool, and what all of them did. Never raises: a number is no reason to lose a hit.

    Where there can be no page, the process still counts, and it alone sees it. `add` takes 0.3 µs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[str, list[int]] = {}  # the number, and where in the page it is (0: nowhere)
        self._page: Page | None = None
        self._pageless = False

    def add(self, name: str, n: int = 1) -> None:
        with self._lock:
            slot = self._slots.get(name) or self._place(name)
            slot[0] += n
            if at := slot[1]:
                self._page.memory[at : at + 8] = pack(slot[0])  # type: ignore[union-attr]

    def hold(self, name: str, n: int) -> None:
        """Set a number that is true while this process lives."""
        name = HELD + name
        with self._lock:
            slot = self._slots.get(name) or self._place(name)
            slot[0] = n
            if at := slot[1]:
                self._page.memory[at : at + 8] = pack(n)  # type: ignore[union-attr]

    def held(self, name: str) -> int:
        """What this process said last; 0 when it never did."""
        slot = self._slots.get(HELD + name)
        return slot[0] if slot else 0

    def read(self) -> Numbers:
        """What all processes counted, now. Puts away the pages of those that are dead."""
        with self._alone() as alone:
            numbers, folded = self._load()
            dead, living, own = [], [], self._page and self._page.path
            for path in self._pages():
                found = None if path.name in folded or path == own else read_page(path, self._owners())
                if found is None:
                    continue
                page, alive = found
                if alive:
                    living.append(page)
                else:
                    dead.append(path)
                    numbers.take(page, alive=False)
            if (dead or folded) and alone:
                self._store(numbers.totals, {*folded, *(path.name for path in dead)})
        for page in living:  # after the totals of the dead were stored
            numbers.take(page, alive=True)
        with self._lock:
            numbers.take(self._own(), alive=True)
        return numbers

    def claim(self, name: str) -> int:
        """Take a number of the dead out of the totals: what it is, from now on the caller's to count."""
        self.read()
        with self._alone() as alone:
            numbers, folded = self._load()
            n = numbers.totals.pop(name, 0)
            return n if n and alone and self._store(numbers.totals, folded) else 0

    def close(self) -> None:
        """Put this process's own page away. What is counted after that begins a new one."""
        if self._page is None:
            return
        path = self._page.path
        with self._alone() as alone, self._lock:
            numbers, folded = self._load()
            if alone:
                numbers.take(self._own(), alive=False)
                self._store(numbers.totals, {*folded, path.name})
            if not self.folder.is_dir():  # nobody will ever ask
                path.unlink(missing_ok=True)
            self._forget()

    # -- this process's page

    def _own(self) -> dict[str, int]:
        return {name: slot[0] for name, slot in self._slots.items()}

    def _place(self, name: str) -> list[int]:
        """Under the lock: a place for a number that is counted for the first time."""
        if self._page is None and not self._pageless:
            self._begin_page()
        slot = self._slots[name] = [0, 0]
        if self._page is not None:
            try:
                slot[1] = self._page.place(name)
            except OSError as error:
                logger.warning("%s has no place in shared memory: %s", name, error)
        return slot

    def _begin_page(self) -> None:
        path = self._place_of_pages() / f"{self._prefix()}{os.getpid()}-{secrets.token_hex(4)}"
        try:
            self._page = Page(path)
        except OSError as error:
            self._pageless = True  # not tried again
            logger.warning("what this process counts, it alone will know: %s", error)
        else:
            self._place(str(self.folder.resolve()))
            self._sweep()

    def _forget(self) -> None:
        """Without putting anything away; in a child the page is the parent's."""
        if self._page is not None:
            self._page.close()
        lock = self._lock
        self._reset()
        self._lock = lock

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._forget()

    # -- all pages

    def _place_of_pages(self) -> Path:
        return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else self.folder

    def _prefix(self) -> str:
        return f"email-tracking-{hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:16]}-"

    def _pages(self) -> list[Path]:
        return sorted(self._place_of_pages().glob(f"{self._prefix()}*"))

    def _sweep(self) -> None:
        """Remove what dead processes left of spools that are no more: nobody will ask for them."""
        for path in self._place_of_pages().glob("email-tracking-*"):
            page, alive = read_page(path, {os.geteuid()}) or ({}, True)
            folder = next((name for name in page if name.startswith(FOLDER)), None)
            if not alive and folder and not Path(folder).is_dir():
                with suppress(OSError):
                    path.unlink()

    def _owners(self) -> set[int]:
        """Whose pages are believed: everybody can put files into shared memory."""
        owners = {0, os.geteuid()}
        with suppress(OSError):
            owners.add(self.folder.stat().st_uid)
        return owners

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Hold the folder's lock, so that no page is counted twice or not at all; whether it was got, and in time."""
        try:
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            yield False
            return
        try:
            yield private.lock_in_time(descriptor, PATIENCE)
        finally:
            os.close(descriptor)

    def _load(self) -> tuple[Numbers, set[str]]:
        """Totals of dead processes, and the names of the pages in them that may still be there."""
        try:
            content = orjson.loads((self.folder / TOTALS).read_bytes())
            return Numbers(Counter({str(name): int(n) for name, n in content["totals"].items()})), set(content["folded"])
        except OSError:
            pass
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("%s cannot be read, its numbers begin again: %s", self.folder / TOTALS, error)
        return Numbers(), set()

    def _store(self, totals: Counter[str], folded: set[str]) -> bool:
        """Under the folder's lock. On a full disk it cannot be: the pages stay as they are, and are counted as before."""
        new = self.folder / f".{TOTALS}.new"
        place = self._place_of_pages()
        try:
            if os.geteuid() not in (0, self.folder.stat().st_uid):
                return False
            new.unlink(missing_ok=True)
            # a new file: root asks too, and must write into none that the folder's owner has put there
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                private.give_as(descriptor, self.folder)  # those who count must be able to read it
                file.write(orjson.dumps({"totals": totals, "folded": sorted(name for name in folded if (place / name).exists())}))
            new.replace(self.folder / TOTALS)
        except OSError:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            return False
        for name in folded:
            with suppress(OSError):  # another user's: it is known as folded
                (place / name).unlink(missing_ok=True)
        return True


_counters: dict[Path, Counters] = {}
_making = threading.Lock()


def process_counters(folder: Path) -> Counters:
    """This process's numbers for a spool, the same for all its threads."""
    counters = _counters.get(folder)
    if counters is None:
        with _making:
            counters = _counters.setdefault(folder, Counters(folder))
    return counters


def close_counters() -> None:
    """Put the pages of this process away, for one that ends."""
    for counters in list(_counters.values()):
        counters.close()


def _after_fork() -> None:
    global _making
    _making = threading.Lock()
    for counters in _counters.values():
        counters.after_fork()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close_counters)
