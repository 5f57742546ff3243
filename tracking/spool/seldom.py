"""Warnings about what is looked at many times a second. Pure."""

from __future__ import annotations

import time
from collections.abc import Hashable

_said: dict[Hashable, float] = {}


def is_due(what: Hashable, seconds: float) -> bool:
    """Whether `what` was not said within the last `seconds`; it counts as said from now on."""
    now = time.monotonic()
    due = now - _said.get(what, float("-inf")) >= seconds
    if due:
        _said[what] = now
    return due
