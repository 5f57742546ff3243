"""Addresses to put into a mail: the pixel and the tracked link of a message."""

from __future__ import annotations

import re
from urllib.parse import quote

from django.conf import settings

from campaigns.rules import Refused, check_token
from tracking.keys import signing_keys
from tracking.signing import sign
from tracking.targets import BadTarget, normalise_target

_POSITION = re.compile(r"[A-Za-z0-9_.-]{0,32}")


def pixel_url(token: str, base: str = "") -> str:
    """The address of a message's pixel. `base` is the public address, by default TRACKING_BASE_URL. Raises Refused."""
    return f"{_base(base)}/track/pixel/{check_token(token)}"


def link_url(token: str, url: str, base: str = "", position: str = "") -> str:
    """A signed address that leads to `url` and counts the click. It works for ever, without the database too.

    `position` tells two links of one mail apart that lead to the same place: at most 32 letters, digits and `_.-`. Needs the
    database only where this installation has no key yet. Raises Refused, for a URL no link may lead to as well.
    """
    check_token(token)
    try:
        target = normalise_target(url)
    except BadTarget as error:
        raise Refused(f"no link can lead there: {error}", field="url") from None
    if not _POSITION.fullmatch(position):
        raise Refused("a position is at most 32 letters, digits and _.-", field="position")
    signature = sign(signing_keys()[0], token, target, position)
    n = f"&n={position}" if position else ""
    return f"{_base(base)}/track/redirect/{token}?url={quote(target, safe='')}{n}&sig={signature}"


def _base(base: str) -> str:
    return (base or settings.CONF.default_base_url).rstrip("/")
