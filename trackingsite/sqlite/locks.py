"""Lock files beside a SQLite database: who writes, who uses it, who prepares it. Pure.

They lie in `<database>-locks/`. Never on the database file itself: closing any descriptor of it would drop the locks that
SQLite holds on it in this process (POSIX locks belong to processes).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracking import private

#: Set while this process holds `users` alone, so that its own connections do not wait for it.
_alone: set[Path] = set()


def folder(database: str | Path) -> Path:
    return Path(f"{database}-locks")


def open_lock(database: str | Path, name: str) -> int:
    """A descriptor of the lock file `name`; each descriptor is a holder of its own."""
    path = folder(database)
    private.make_private_folder(path)
    return private.open_private_file(path / name)


@contextmanager
def preparing(database: str | Path) -> Iterator[None]:
    """One process at a time makes or migrates the database."""
    descriptor = open_lock(database, "preparing")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def sole_user(database: str | Path, seconds: float) -> Iterator[bool]:
    """Whether no other process has the database open; none can open it until the end of the block.

    Waits `seconds` for others to leave: who only looks whether the database is current is gone in a moment.
    """
    descriptor, path = open_lock(database, "users"), folder(database)
    try:
        if not private.lock_in_time(descriptor, seconds):
            yield False
            return
        _alone.add(path)
        try:
            yield True
        finally:
            _alone.discard(path)
    finally:
        os.close(descriptor)


def register_user(database: str | Path) -> int | None:
    """Say that this process has the database open, until the descriptor is closed."""
    if folder(database) in _alone:
        return None
    descriptor = open_lock(database, "users")
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def wait_for_writers(descriptor: int, seconds: float) -> bool:
    """Wait until nobody holds the `writers` lock, `seconds` at most. Called by whoever writes in bulk, before each batch.

    Whether somebody held it.
    """
    until, held = time.monotonic() + seconds, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = True
            if time.monotonic() >= until:
                return held
            time.sleep(0.002)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            return held
