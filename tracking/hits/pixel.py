"""The pixel: always the same picture."""

from __future__ import annotations

from campaigns.events import EventKind
from campaigns.tokens import is_token
from tracking.hits.request import NO_STORE, SECURITY, Answer
from tracking.spool.lines import hit_line

#: One transparent pixel: the bytes of nginx's `empty_gif`, which may answer in our place.
GIF = bytes.fromhex("47494638396101000100800100000000ffffff21f90401000001002c00000000010001000002024c01003b")

#: The same whatever the token: an answer that differed would tell who guesses tokens that one is right.
PIXEL = Answer(200, (("Content-Type", "image/gif"), NO_STORE, *SECURITY), GIF)


def pixel_line(token: str, at: int, ip: str | None, told: bytes) -> bytes | None:
    """The open to be written down, as `hit_line` has it; None where `token` is none. `.gif` at its end is ignored."""
    if not is_token(token):
        token = token[:-4] if token[-4:].lower() == ".gif" else ""
        if not is_token(token):
            return None
    return hit_line(EventKind.OPENED, token, at, ip, told)
