"""The keys that sign links: rows of the database, copied to the keys file for when the database is away."""

from __future__ import annotations

import secrets
import threading
import time

from django.conf import settings
from django.db import transaction

from campaigns.events import now_ms
from campaigns.times import from_ms, to_ms
from tracking import keyfile
from tracking.brief_queries import NO_ANSWER, brief
from tracking.keyfile import StoredKey
from tracking.models import LinkKey

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
    except NO_ANSWER:
        _keys = _newest_first(keyfile.read(settings.CONF.keys_file).link_keys) or _keys
        return _keys


def sync() -> tuple[bytes, ...]:
    """Make database and file hold the same keys, a first one if there is none. No key is ever dropped: it signed links."""
    global _keys
    with keyfile.updating(settings.CONF.keys_file) as keys:
        rows = [StoredKey(key, to_ms(created_at)) for key, created_at in LinkKey.objects.values_list("key", "created_at")]
        known = {row.key for row in rows}
        missing = [stored for stored in keys.link_keys if stored.key not in known]
        if not rows and not missing:
            missing = [_make()]
        if missing:
            with transaction.atomic():
                LinkKey.objects.bulk_create(
                    [LinkKey(key=stored.key, created_at=from_ms(stored.created_at)) for stored in missing], ignore_conflicts=True
                )
        keys.link_keys = sorted([*rows, *missing], key=lambda stored: (stored.created_at, stored.key))
        _keys = _newest_first(keys.link_keys)
    return _keys


def rotate() -> None:
    """Make a new key. From now on it signs; links that older keys signed go on working."""
    global _keys
    with keyfile.updating(settings.CONF.keys_file) as keys:
        stored = _make(after=max((key.created_at for key in keys.link_keys), default=0))
        LinkKey.objects.create(key=stored.key, created_at=from_ms(stored.created_at))
        keys.link_keys.append(stored)
    _keys = ()
    sync()


def forget_keys() -> None:
    """Drop what this process remembers, for when the database under it has been replaced."""
    global _keys, _reloaded_at
    _keys, _reloaded_at = (), float("-inf")


def _make(after: int = 0) -> StoredKey:
    """A new key, newer than `after` whatever the clock says."""
    return StoredKey(secrets.token_hex(32), max(now_ms(), after + 1))


def _newest_first(stored: list[StoredKey]) -> tuple[bytes, ...]:
    ordered = sorted(stored, key=lambda key: (key.created_at, key.key), reverse=True)
    return tuple(bytes.fromhex(key.key) for key in ordered)
