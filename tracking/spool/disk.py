"""The disk under the spool. Pure."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: Bytes that must be free: thousands of hits.
ROOM = 1_000_000


@dataclass(frozen=True)
class Disk:
    writable: bool  # a line can be written, or the folder made with the first one
    free: int  # bytes


def disk_under(folder: Path) -> Disk:
    try:
        place = next(path for path in (folder, *folder.parents) if path.exists())
        found = os.statvfs(place)
    except OSError:
        return Disk(writable=False, free=0)
    free = found.f_bavail * found.f_frsize
    has_room = free >= ROOM and (found.f_favail > 0 or not found.f_files)  # some file systems count no files
    return Disk(has_room and os.access(place, os.W_OK | os.X_OK), free)
