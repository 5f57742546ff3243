"""The reading end of the spool: which segments there are, and their lines from a position on. Pure."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".jsonl"
#: Where segments go that have no writer and are applied to their end; kept for a while, for a database that lost commits.
APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class Segment:
    path: Path
    size: int

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True, slots=True)
class Line:
    """A whole line without its newline, and where it begins and the next one does."""

    start: int
    end: int
    data: bytes


def segments(folder: Path) -> list[Segment]:
    """The segments to read, oldest first. Empty when there is no spool yet."""
    try:
        with os.scandir(folder) as entries:
            found = [Segment(Path(entry.path), entry.stat().st_size) for entry in entries if entry.name.endswith(SUFFIX)]
    except (FileNotFoundError, NotADirectoryError):  # no spool yet, or a segment that just went to the applied ones
        if not folder.is_dir():
            return []
        return segments(folder)
    return sorted(found, key=lambda segment: segment.name)


def applied_segments(folder: Path) -> list[Segment]:
    return segments(folder / APPLIED)


def read_lines(path: Path, position: int, upto: int, most: int) -> list[Line]:
    """Whole lines that begin at `position` or later and before `upto`, `most` of them at most. A tail without a newline is left."""
    lines: list[Line] = []
    with path.open("rb") as file:
        file.seek(position)
        while len(lines) < most and position < upto:
            data = file.readline()
            if not data.endswith(b"\n"):
                break
            lines.append(Line(position, position + len(data), data[:-1]))
            position += len(data)
    return lines


def read_tail(path: Path, position: int, most: int) -> tuple[bytes, int]:
    """What is left from `position` on, cut at `most` bytes, and where it ends."""
    with path.open("rb") as file:
        file.seek(position)
        return file.read(most), os.fstat(file.fileno()).st_size


def has_writer(path: Path) -> bool:
    """Whether a living process still appends to the segment."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def put_with_applied(path: Path) -> None:
    """Move a segment that is done out of the readers' way."""
    target = path.parent / APPLIED
    target.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):  # another process was quicker
        os.utime(path)  # it is kept from now on, however late it was applied
        path.rename(target / path.name)


def take_back(path: Path) -> None:
    """Put an applied segment before the readers again."""
    with suppress(FileNotFoundError):
        path.rename(path.parent.parent / path.name)


def past_keeping(folder: Path, seconds: int, size: int) -> list[Path]:
    """Applied segments that are older than `seconds`, and the oldest of those that take more than `size` bytes together."""
    kept, going, now = 0, [], time.time()
    for segment in reversed(applied_segments(folder)):
        with suppress(FileNotFoundError):
            age = now - segment.path.stat().st_mtime
            if age > seconds or kept + segment.size > size:
                going.append(segment.path)
            else:
                kept += segment.size
    return going[::-1]
