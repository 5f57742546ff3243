"""The pixel: always the same picture. Its line takes 4 µs."""

from __future__ import annotations

from collections.abc import Sequence

from campaigns.events import EventKind
from campaigns.tokens import is_token
from tracking.hits.client_ip import Network
from tracking.hits.request import NO_STORE, Answer, HitRequest, line_of

#: One transparent pixel.
GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")

#: The same whatever the token: an answer that differed would tell who guesses tokens that one is right.
PIXEL = Answer(200, (("Content-Type", "image/gif"), NO_STORE), GIF)


def pixel_line(request: HitRequest, at: int, trusted: Sequence[Network] | None) -> bytes | None:
    """The open to be written down, at `at` in UTC milliseconds; None when the address holds no token. `.gif` at its end is ignored."""
    token = request.token
    if token[-4:].lower() == ".gif":
        token = token[:-4]
    return line_of(EventKind.OPENED, request, token, at, trusted) if is_token(token) else None
