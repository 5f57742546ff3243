"""Making and checking tracking tokens. Pure: imports no Django."""

from __future__ import annotations

import base64
import re
import secrets

from campaigns.events import now_ms

RULE = "1 to 128 of A-Z a-z 0-9 _ . ~ -, not dots only, not ending in .gif"
#: `.` and `..` would be lost in a path; `.gif` is tolerated at the end of a pixel's address.
_TOKEN = re.compile(r"(?!\.+\Z)[A-Za-z0-9_.~-]{1,128}(?<!\.[gG][iI][fF])")


def make_token() -> str:
    """A new token: 48 bits of time and 128 of chance in lower-case base32, 36 characters.

    No sequence to guess, safe in any letter case (a mail client once lower-cased base64 tokens), and its leading time keeps
    the index of a table that grows in one place.
    """
    return base64.b32encode(now_ms().to_bytes(6, "big") + secrets.token_bytes(16)).decode().rstrip("=").lower()


def is_token(text: str) -> bool:
    """Whether a text can be a token."""
    return _TOKEN.fullmatch(text) is not None
