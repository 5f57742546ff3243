"""Numbers that all processes of an installation count together. Pure.

Each process counts in a page of memory of its own: a file in /dev/shm that it holds a `flock` on. Whoever asks adds the pages
up. A page whose lock is free has no process any more; it goes into the totals in the spool's folder and is removed. So numbers
outlive their process however it ends, never go back, and leave one file.

Pages do not lie beside the spool, because a store into a mapped file on a full disk ends the process where the file system
copies on write, and a full disk is when losses are to be counted.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import hashlib
import logging
import mmap
import os
import secrets
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson

logger = logging.getLogger("tracking.metrics")

#: Where there is none (it is Linux's), pages are in the spool's folder.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
TOTALS = "counters.json"
PAGE_BYTES = 16 * 1024
#: How long the folder's lock is waited for, in seconds; after that the pages are added up as they are found.
PATIENCE = 1.0
#: Begins the names of numbers that hold only while their process lives.
HELD = "="
#: Begins the first name of a page, which is its spool's folder.
FOLDER = "/"

_HEAD = struct.Struct("=II")  # bytes of the name (0 after the last one), and nothing
_VALUE = struct.Struct("=q")
_pack = _VALUE.pack


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
        self._page: mmap.mmap | None = None
        self._path: Path | None = None
        self._descriptor = -1
        self._used = 0
        self._pageless = False

    def add(self, name: str, n: int = 1) -> None:
        with self._lock:
            slot = self._slots.get(name) or self._place(name)
            slot[0] += n
            if at := slot[1]:
                # by slice: struct.pack_into clears the place first, and a reader may see that
                self._page[at : at + 8] = _pack(slot[0])  # type: ignore[index]

    def hold(self, name: str, n: int) -> None:
        """Set a number that is true while this process lives."""
        name = HELD + name
        with self._lock:
            slot = self._slots.get(name) or self._place(name)
            slot[0] = n
            if at := slot[1]:
                self._page[at : at + 8] = _pack(n)  # type: ignore[index]

    def held(self, name: str) -> int:
        """What this process said last; 0 when it never did."""
        slot = self._slots.get(HELD + name)
        return slot[0] if slot else 0

    def read(self) -> Numbers:
        """What all processes counted, now. Puts away the pages of those that are dead."""
        with self._alone() as alone:
            numbers, folded = self._load()
            dead = []
            for path in self._pages():
                found = None if path.name in folded or path == self._path else _read_page(path, self._owners())
                if found is None:
                    continue
                page, alive = found
                if not alive:
                    dead.append(path)
                numbers.take(page, alive=alive)
            if (dead or folded) and alone:
                self._store(numbers.totals, {*folded, *(path.name for path in dead)})
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
        if self._path is None:
            return
        with self._alone() as alone, self._lock:
            numbers, folded = self._load()
            if alone:
                numbers.take(self._own(), alive=False)
                self._store(numbers.totals, {*folded, self._path.name})
            if not self.folder.is_dir():  # nobody will ever ask
                self._path.unlink(missing_ok=True)
            self._forget()

    # -- this process's page

    def _own(self) -> dict[str, int]:
        return {name: slot[0] for name, slot in self._slots.items()}

    def _place(self, name: str) -> list[int]:
        """Under the lock: a place for a number that is counted for the first time."""
        if self._page is None and not self._pageless:
            try:
                self._begin_page()
            except (OSError, ValueError) as error:
                self._pageless = True  # not tried again
                logger.warning("what this process counts, it alone will know: %s", error)
            else:
                self._place(str(self.folder.resolve()))
                self._sweep()
        slot = self._slots[name] = [0, 0]
        if self._page is not None:
            text = name.encode()
            text += bytes(-len(text) % 8)
            end = self._used + _HEAD.size + len(text) + _VALUE.size
            try:
                if end + _HEAD.size > len(self._page):
                    _fill(self._descriptor, len(self._page), len(self._page))
                    self._page.resize(2 * len(self._page))
            except (OSError, ValueError, SystemError) as error:  # the last where the system has no mremap
                logger.warning("%s has no place in shared memory: %s", name, error)
            else:
                start = self._used + _HEAD.size
                self._page[start : end - _VALUE.size] = text
                self._page[self._used : start] = _HEAD.pack(len(name.encode()), 0)  # last: now a reader sees it
                slot[1] = end - _VALUE.size
                self._used = end
        return slot

    def _begin_page(self) -> None:
        path = self._place_of_pages() / f"{self._prefix()}{os.getpid()}-{secrets.token_hex(4)}"
        # Locked before it has its name: nobody takes it for a dead process's.
        hidden = path.with_name(f".{path.name}.new")
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _fill(descriptor, PAGE_BYTES, 0)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._page = mmap.mmap(descriptor, PAGE_BYTES)
            hidden.rename(path)
        except (OSError, ValueError):
            os.close(descriptor)
            hidden.unlink(missing_ok=True)
            raise
        self._descriptor, self._path = descriptor, path

    def _forget(self) -> None:
        """Without putting anything away; in a child the page is the parent's."""
        if self._page is not None:
            self._page.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
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
            page, alive = _read_page(path, {os.geteuid()}) or ({}, True)
            folder = next((name for name in page if name.startswith(FOLDER)), None)
            if not alive and folder and not Path(folder).is_dir():
                path.unlink(missing_ok=True)

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
            yield _lock_in_time(descriptor)
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
            new.write_bytes(orjson.dumps({"totals": totals, "folded": sorted(name for name in folded if (place / name).exists())}))
            new.chmod(0o600)
            new.replace(self.folder / TOTALS)
        except OSError:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            return False
        for name in folded:
            with suppress(OSError):  # another user's: it is known as folded
                (place / name).unlink(missing_ok=True)
        return True


def _fill(descriptor: int, size: int, at: int) -> None:
    """Make a file longer by writing: a mapped place that was written cannot lack memory later."""
    if os.pwrite(descriptor, bytes(size), at) < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _lock_in_time(descriptor: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        else:
            return True


def _read_page(path: Path, owners: set[int]) -> tuple[dict[str, int], bool] | None:
    """The numbers in a page, and whether its process lives; None where it is gone or nobody's we know."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_uid not in owners:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            alive = False
        except BlockingIOError:
            alive = True
        return _parse(os.pread(descriptor, os.fstat(descriptor).st_size, 0)), alive
    except (OSError, ValueError, struct.error):
        return None
    finally:
        os.close(descriptor)


def _parse(data: bytes) -> dict[str, int]:
    found, at = {}, 0
    while at + _HEAD.size <= len(data) and (size := _HEAD.unpack_from(data, at)[0]):
        at += _HEAD.size
        name = data[at : at + size].decode()
        at += size + -size % 8
        found[name] = _VALUE.unpack_from(data, at)[0]
        at += _VALUE.size
    return found


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
