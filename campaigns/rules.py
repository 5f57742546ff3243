"""What may be written: one check for each field of a campaign or message, the same for API, CLI, Python and admin. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

from campaigns import tokens

MAX_NAME, MAX_EMAIL, MAX_TAGS, MAX_TAG, MAX_METADATA_BYTES, MAX_BULK = 200, 320, 20, 50, 4096, 10_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
#: Of the integers that the database can hold.
BIGGEST = 2**63 - 1


class Refused(ValueError):
    """A request that cannot be carried out. The text is a sentence for the caller; `status` its HTTP status."""

    def __init__(self, text: str, *, field: str | None = None, status: int = 400) -> None:
        super().__init__(text)
        self.field = field
        self.status = status


def check_name(value: Any) -> str:
    """A campaign's name: 1 to 200 characters of text, trimmed."""
    if not isinstance(value, str) or not value.strip():
        raise Refused("a campaign needs a name", field="name")
    name = value.strip()
    if len(name) > MAX_NAME:
        raise Refused(f"the name has {len(name)} characters; {MAX_NAME} are allowed", field="name")
    if _CONTROL.search(name):
        raise Refused("the name has control characters", field="name")
    return name


def check_email(value: Any) -> str:
    """An address: something@something without spaces. Stricter checks refuse addresses that work (RFC 5321 allows much)."""
    if not isinstance(value, str) or not value.strip():
        raise Refused("a message needs a recipient_email", field="recipient_email")
    email = value.strip()
    local, _, domain = email.rpartition("@")
    if not local or not domain or re.search(r"\s", domain) or _CONTROL.search(email) or (" " in local and not local.startswith('"')):
        raise Refused(f"{email[:100]!r} is no e-mail address", field="recipient_email")
    if len(email) > MAX_EMAIL:
        raise Refused(f"the address has {len(email)} characters; {MAX_EMAIL} are allowed", field="recipient_email")
    return email


def check_token(value: Any) -> str:
    if not isinstance(value, str) or not tokens.is_token(value):
        raise Refused(f"a tracking_token is {tokens.RULE}", field="tracking_token")
    return value


def check_template_id(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not -BIGGEST <= value <= BIGGEST:
        raise Refused(f"a template_id is a whole number from -{BIGGEST} to {BIGGEST}", field="template_id")
    return value


def check_tags(value: Any) -> list[str]:
    """At most 20 tags of at most 50 characters, each once."""
    if value is None:
        return []
    if not isinstance(value, list | tuple) or not all(isinstance(tag, str) for tag in value):
        raise Refused("tags are a list of texts", field="tags")
    tags = list(dict.fromkeys(tag.strip() for tag in value))
    if any(not tag or len(tag) > MAX_TAG or _CONTROL.search(tag) for tag in tags):
        raise Refused(f"a tag is 1 to {MAX_TAG} characters", field="tags")
    if len(tags) > MAX_TAGS:
        raise Refused(f"there are {len(tags)} tags; {MAX_TAGS} are allowed", field="tags")
    return tags


def check_metadata(value: Any) -> dict[str, Any]:
    """A JSON object of at most 4 KB."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise Refused("metadata is a JSON object", field="metadata")
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (ValueError, TypeError, RecursionError):
        raise Refused("metadata must be plain JSON", field="metadata") from None
    if size > MAX_METADATA_BYTES:
        raise Refused(f"metadata takes {size} bytes; {MAX_METADATA_BYTES} are allowed", field="metadata")
    if "\\u0000" in text.replace("\\\\", ""):  # a NUL, not a backslash before the letters u0000
        raise Refused("metadata has NUL characters", field="metadata")
    return value
