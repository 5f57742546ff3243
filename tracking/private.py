"""Files and folders for nobody but the user that the service runs as, whoever makes them. Pure.

The service and root's commands share them: what root makes belongs to the owner of the folder it is made in, or the service
could not use it. Only what was made just now is given away, and by its descriptor: what stood there before, or is put there
meanwhile, may be a link of that user's that leads anywhere. (A log of SQLite's gets the owner and mode of its database from SQLite.)
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder, and those above it, where there is none."""
    try:
        path.mkdir(mode)
    except FileNotFoundError:
        make_folder(path.parent)
        make_folder(path, mode)
    except FileExistsError:
        if not path.is_dir():
            raise
    else:
        with _opened(path) as descriptor:
            give_as(descriptor, path.parent)


def make_private_folder(path: Path) -> None:
    """One of mode 700; this user's own is made so. Whoever may open a file in it may lock it, and stop who waits for the lock."""
    make_folder(path, 0o700)
    with suppress(OSError), _opened(path) as descriptor:  # a link is left as it is, and a disk that takes no changes
        found = os.fstat(descriptor)
        if found.st_uid == os.geteuid() and found.st_mode & 0o077:
            os.fchmod(descriptor, 0o700)


def open_private_file(path: Path) -> int:
    """A descriptor of a file, made with mode 600 where there is none. Each is a holder of locks of its own."""
    try:
        return _new_file(path)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def make_private_file(path: Path) -> None:
    """The same for a file that must not be opened: closing it would drop the locks of SQLite."""
    with suppress(FileExistsError):
        os.close(_new_file(path))


def close_to_others(database: Path) -> None:
    """Of this user's database take away what everybody may do, its log's included. What a group may do stays: somebody gave it the
    right on purpose.

    None is opened: closing it would drop the locks of SQLite. So it must be known to be a database of ours.
    """
    for path in (database, *(database.with_name(database.name + end) for end in ("-wal", "-shm"))):
        with suppress(OSError):
            found = path.stat()
            if found.st_uid == os.geteuid() and found.st_mode & 0o007:
                path.chmod(stat.S_IMODE(found.st_mode) & ~0o007)


def give_as(descriptor: int, like: Path | int) -> None:
    """As root, give what was made just now to the owner of `like`, a path or a descriptor."""
    if os.geteuid() == 0:
        owner = os.fstat(like) if isinstance(like, int) else like.stat()
        with suppress(OSError):  # a file system without owners
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _new_file(path: Path) -> int:
    # the folder is looked up once: it might be another one when its owner is asked for
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = os.open(path.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        give_as(descriptor, folder)
        return descriptor
    finally:
        os.close(folder)


def lock_in_time(descriptor: int, seconds: float) -> bool:
    """Take its `flock` alone, and wait for it so long at most: whether it was got."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        else:
            return True


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
