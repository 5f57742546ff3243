"""API keys: made, found by their text, revoked.

A key is `etk_<prefix>_<secret>`: 8 hexadecimal digits to find its row by, 40 of chance (160 bits). The secret is that long,
so a plain SHA-256 of it is as good as a slow hash. Each look-up is one indexed query: a key that was revoked is refused from the
next request on. What was found last is remembered for the pages that tell of a database that is away, and for nothing else.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime

from campaigns.rules import Refused
from campaigns.times import utc_now
from trackingsite.access.models import SCOPES, ApiKey

_KEY = re.compile(r"etk_([0-9a-f]{8})_([0-9a-f]{40})")
_BEARER = re.compile(r"bearer(?:\s+(.*))?", re.IGNORECASE)

#: Keys that let somebody in when this process last looked for them, by prefix.
_verified: dict[str, ApiKey] = {}


class BadKey(Exception):
    """A key that lets nobody in. The text is a sentence for whoever sent it."""


def create(name: str, scopes: Iterable[str] = SCOPES, expires_at: datetime | None = None) -> tuple[ApiKey, str]:
    """A new key and its text, which can be had here and nowhere else. Raises Refused."""
    wanted = set(scopes)
    if unknown := sorted(wanted - set(SCOPES)):
        raise Refused(f"{unknown[0]!r} is no scope; {', '.join(SCOPES)} are", field="scopes")
    if not wanted:
        raise Refused(f"a key needs a scope: {', '.join(SCOPES)}", field="scopes")
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise Refused("a key needs a name of 1 to 100 characters", field="name")
    key = ApiKey(name=name, scopes=[scope for scope in SCOPES if scope in wanted], expires_at=expires_at)
    text = mint(key)
    key.save(force_insert=True)
    return key, text


def mint(key: ApiKey) -> str:
    """Give a key that is not saved yet its prefix and hash; the text it has from now on."""
    secret = secrets.token_hex(20)
    key.prefix, key.secret_hash = secrets.token_hex(4), _hash(secret)
    return f"etk_{key.prefix}_{secret}"


def presented(meta: Mapping[str, str]) -> str | None:
    """The key that a request's headers carry: `Authorization: Bearer …`, else `X-API-Key`; None where there is neither."""
    if match := _BEARER.fullmatch(meta.get("HTTP_AUTHORIZATION", "").strip()):
        return match[1] or ""
    key = meta.get("HTTP_X_API_KEY")
    return None if key is None else key.strip()


def verify(text: str) -> ApiKey:
    """The key with this text. Raises BadKey: unknown, expired or revoked."""
    match = _KEY.fullmatch(text)
    key = ApiKey.objects.filter(prefix=match[1]).first() if match else None
    if match and (key is None or key.state != "active"):
        _verified.pop(match[1], None)
    if match is None or key is None or not _is_secret(key, match[2]):
        raise BadKey("This API key is not known here.")
    if key.state != "active":
        raise BadKey(f"This API key is {key.state}.")
    _verified[key.prefix] = key
    return key


def remembered(text: str) -> ApiKey | None:
    """The key with this text, if it let somebody in when this process last looked for it and has not expired since.

    It may have been revoked since: so this is for who cannot ask the database, and for what does little harm.
    """
    match = _KEY.fullmatch(text)
    key = _verified.get(match[1]) if match else None
    return key if match and key and _is_secret(key, match[2]) and key.state == "active" else None


def find(text: str) -> ApiKey | None:
    """The key with this prefix (as it is, or as a key begins), or else with this id."""
    if match := re.match(r"(?:etk_)?([0-9a-f]{8})(?:_|$)", text):
        found = ApiKey.objects.filter(prefix=match[1]).first()
        if found is not None:
            return found
    return ApiKey.objects.filter(pk=int(text)).first() if re.fullmatch(r"[0-9]{1,18}", text) else None


def revoke(key: ApiKey) -> None:
    """Refuse the key from now on; a revoked key stays as it is."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=utc_now())
    key.refresh_from_db(fields=["revoked_at"])


def ever_made() -> bool:
    """Whether there is or was a key: keys are revoked, never deleted."""
    return ApiKey.objects.exists()


def _is_secret(key: ApiKey, secret: str) -> bool:
    return secrets.compare_digest(key.secret_hash, _hash(secret))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
