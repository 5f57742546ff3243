"""The keys that sign links: rows of the database, copied to the keys file for when the database is away."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from contextlib import suppress

from django.conf import settings
from django.db import transaction

from campaigns.events import now_ms
from campaigns.times import from_ms, to_ms
from tracking import keyfile
from tracking.brief_queries import NO_ANSWER, PATIENCE, brief
from tracking.keyfile import StoredKey
from tracking.models import LinkKey

logger = logging.getLogger("tracking.keys")

#: A signature that no known key made has the keys read again, at most this often.
RELOAD_SECONDS = 2.0

_lock = threading.Lock()
_keys: tuple[bytes, ...] = ()
_reloaded_at = float("-inf")


def known_keys() -> tuple[bytes, ...]:
    """The keys that this process has read, newest first; empty before the first need of them. Waits for nothing."""
    return _keys


def signing_keys() -> tuple[bytes, ...]:
    """The keys, newest first: the first signs, all verify. Needs the database only when there is no keys file yet."""
    global _keys
    if not _keys:
        stored = keyfile.read(settings.CONF.keys_file).link_keys
        _keys = _newest_first(stored) if stored else sync()
    return _keys


def reload_keys() -> tuple[bytes, ...]:
    """The keys, read again unless that was done just now: another process or machine may have made a new one."""
    global _keys, _reloaded_at
    with _lock:
        if time.monotonic() - _reloaded_at < RELOAD_SECONDS:
            return _keys
        _reloaded_at = time.monotonic()
    try:
        with brief():
            return sync()
    except (*NO_ANSWER, OSError, ValueError):  # what can be read counts, and a key that is known is not forgotten
        with suppress(OSError, ValueError):
            stored = _newest_first(keyfile.read(settings.CONF.keys_file).link_keys)
            _keys = stored + tuple(key for key in _keys if key not in stored)
        return _keys


def sync() -> tuple[bytes, ...]:
    """Make database and file hold the same keys, a first one if there is none. No key is ever dropped: it signed links.

    On a full disk the file stays as it is. The keys are in the database then, and the next who comes here tries again.
    """
    global _keys
    path, trouble = settings.CONF.keys_file, None
    try:
        with keyfile.updating(path, PATIENCE) as keys:
            keys.link_keys = _in_database(keys.link_keys)
    except OSError as error:
        keys, trouble = keyfile.read(path), error
        keys.link_keys = _in_database(keys.link_keys)
    before, _keys = _keys, _newest_first(keys.link_keys)
    if trouble is not None and _keys != before:  # once, not with every bad signature
        logger.warning("%s stays as it is, link keys of the database are not copied: %s", path, trouble)
    return _keys


def rotate() -> None:
    """Make a new key. From now on it signs; links that older keys signed go on working."""
    sync()
    newest = LinkKey.objects.latest("created_at")
    stored = _make(after=to_ms(newest.created_at))
    LinkKey.objects.create(key=stored.key, created_at=from_ms(stored.created_at))
    sync()


def forget_keys() -> None:
    """Drop what this process remembers, for when the database under it has been replaced."""
    global _keys, _reloaded_at
    _keys, _reloaded_at = (), float("-inf")


def _in_database(stored: list[StoredKey]) -> list[StoredKey]:
    """Put these keys into the database where they are not, and a first one where there is none: all keys that it has then."""
    rows = [StoredKey(key, to_ms(created_at)) for key, created_at in LinkKey.objects.values_list("key", "created_at")]
    known = {row.key for row in rows}
    missing = [each for each in stored if each.key not in known]
    if not rows and not missing:
        missing = [_make()]
    if missing:
        with transaction.atomic():
            LinkKey.objects.bulk_create(
                [LinkKey(key=each.key, created_at=from_ms(each.created_at)) for each in missing], ignore_conflicts=True
            )
    return sorted([*rows, *missing], key=lambda each: (each.created_at, each.key))


def _make(after: int = 0) -> StoredKey:
    """A new key, newer than `after` whatever the clock says."""
    return StoredKey(secrets.token_hex(32), max(now_ms(), after + 1))


def _newest_first(stored: list[StoredKey]) -> tuple[bytes, ...]:
    ordered = sorted(stored, key=lambda key: (key.created_at, key.key), reverse=True)
    return tuple(bytes.fromhex(key.key) for key in ordered)
