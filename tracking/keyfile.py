"""The keys file: the secret that sessions are signed with, and a copy of the link keys for a start without the database. Pure.

Mode 600, JSON, written whole and renamed. The link keys' home is the database (`LinkKey`), so that a backup of the database
is a backup of everything; the copy lets a signed link redirect when the database is away.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tracking import private


@dataclass(frozen=True)
class StoredKey:
    """A link key: 32 bytes in hexadecimal, and when it was made (UTC milliseconds)."""

    key: str
    created_at: int


@dataclass
class Keys:
    secret_key: str = ""
    link_keys: list[StoredKey] = field(default_factory=list)


def read(path: Path) -> Keys:
    """What the file holds; empty where there is none yet. Raises ValueError when it is no keys file."""
    try:
        data = json.loads(path.read_text())
        return Keys(data["secret_key"], [StoredKey(item["key"], item["created_at"]) for item in data["link_keys"]])
    except FileNotFoundError:
        return Keys()
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no keys file ({error}); move it away and a new one is made") from None


def write(path: Path, keys: Keys) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    data = {"secret_key": keys.secret_key, "link_keys": [vars(key) for key in keys.link_keys]}
    with suppress(FileNotFoundError):
        temporary.unlink()
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            private.give_as(descriptor, path if path.exists() else path.parent)
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError:  # a full disk; what there is of it is of no use
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def updating(path: Path, seconds: float = 10.0) -> Iterator[Keys]:
    """The keys to change in place, written back if they changed; one process at a time. Raises TimeoutError after so many seconds.

    The lock is a file of its own: a folder that others may open they may lock, too.
    """
    private.make_folder(path.parent)
    lock = private.open_private_file(path.with_name(f"{path.name}.lock"))
    try:
        if not private.lock_in_time(lock, seconds):
            raise TimeoutError(errno.ETIMEDOUT, "another process changes the keys")
        keys = read(path)
        before = (keys.secret_key, list(keys.link_keys))
        yield keys
        if (keys.secret_key, keys.link_keys) != before:
            write(path, keys)
    finally:
        os.close(lock)


def secret_key(path: Path) -> str:
    """The secret of this installation, made at the first call."""
    known = read(path).secret_key
    if known:
        return known
    with updating(path) as keys:
        keys.secret_key = keys.secret_key or secrets.token_urlsafe(48)
        return keys.secret_key
