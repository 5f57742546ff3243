"""The reading end of the spool: which segments there are, and their lines from a position on. Pure."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tracking import private
from tracking.spool.lines import MAX_LINE

SUFFIX = ".jsonl"
#: Names that a position can have. Whatever else is in the folder is left alone, as is what is no file.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,74}\.jsonl")
#: Where segments go that have no writer and are applied to their end; kept for a while, for a database that lost commits.
APPLIED = "applied"
#: However little shall be kept: who read lines just before another process applied them must find their position still there, in seconds.
LEAST_SECONDS = 60
#: Of what is longer than a line may be, so much is read at once.
_GARBAGE_BYTES = 1024 * 1024
#: Bytes of a line as most are, and of as many as are read at once.
_USUAL_LINE, _BLOCK_BYTES = 500, 2 * 1024 * 1024
#: After so many bytes no further line is read for a batch, however many it may have: lines of 17 kB can be had for the asking.
BATCH_BYTES = 8 * 1024 * 1024


class Line(NamedTuple):
    """A whole line without its newline, and where it begins and the next one does. What is longer than any line may be is cut."""

    start: int
    end: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    path: Path
    size: int

    @property
    def name(self) -> str:
        return self.path.name

    def read_lines(self, position: int, most: int) -> list[Line]:
        """See the function of that name. Raises FileNotFoundError when it is with the applied ones already."""
        return read_lines(self.path, position, self.size, most)

    def read_torn(self, position: int) -> Line | None:
        """The last line, where its writer died over it; None while the writer lives, or when it finished the line before it ended."""
        if has_writer(self.path) or read_lines(self.path, position, self.size, 1):
            return None
        tail, end = read_tail(self.path, position, MAX_LINE)
        return Line(position, end, tail) if tail else None

    def is_here(self) -> bool:
        """Whether it is still among those to read."""
        return self.path.exists()

    def put_away(self) -> None:
        """Put it with the applied ones, it is applied to its end: if its writer is gone and wrote nothing since we looked."""
        with suppress(FileNotFoundError):
            if not has_writer(self.path) and self.path.stat().st_size == self.size:
                put_with_applied(self.path)


def segments(folder: Path) -> list[Segment]:
    """The segments to read, oldest first. Empty when there is no spool yet."""
    found = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # it went to the applied ones just now
                    if entry.is_file(follow_symlinks=False):
                        found.append(Segment(Path(entry.path), entry.stat(follow_symlinks=False).st_size))
    return sorted(found, key=lambda segment: segment.name)


def applied_segments(folder: Path) -> list[Segment]:
    return segments(folder / APPLIED)


def read_lines(path: Path, position: int, upto: int, most: int) -> list[Line]:
    """Whole lines that begin at `position` or later and before `upto`, `most` of them at most, and few where they are long.

    A tail without a newline is left.
    """
    with path.open("rb") as file:
        return whole_lines(file, position, upto, most)


def whole_lines(file: BinaryIO, position: int, upto: int, most: int) -> list[Line]:
    """The same of a file that is open. Garbage without an end is not held in memory."""
    lines: list[Line] = []
    upto = min(upto, position + BATCH_BYTES)
    while len(lines) < most and position < upto:
        file.seek(position)
        block = file.read(min((most - len(lines)) * _USUAL_LINE, _BLOCK_BYTES))
        found = _lines_of(block, position, upto, most - len(lines)) or _long_line(file, position)
        if not found:
            break
        lines += found
        position = found[-1].end
    return lines


def _lines_of(block: bytes, position: int, upto: int, most: int) -> list[Line]:
    """The whole lines of a block that begins at `position`, up to one that is too long. A third of the time of `readline()`."""
    lines: list[Line] = []
    for data in block.split(b"\n", most)[:-1]:
        if position >= upto or len(data) > MAX_LINE:
            break
        end = position + len(data) + 1
        lines.append(Line(position, end, data))
        position = end
    return lines


def _long_line(file: BinaryIO, position: int) -> list[Line]:
    """The one line at `position`, cut where it is too long; none when it has no end yet."""
    file.seek(position)
    data = part = file.readline(MAX_LINE + 2)
    end = position + len(data)
    while part and not part.endswith(b"\n"):
        part = file.readline(_GARBAGE_BYTES)
        end += len(part)
    return [Line(position, end, data.removesuffix(b"\n"))] if part else []


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
    private.make_private_folder(target)
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
    for applied_at, segment in sorted(_by_time(applied_segments(folder)), key=itemgetter(0), reverse=True):
        age = now - applied_at
        if age > LEAST_SECONDS and (age > seconds or kept + segment.size > size):
            going.append(segment.path)
        else:
            kept += segment.size
    return going[::-1]


def _by_time(segments: Iterable[Segment]) -> Iterator[tuple[float, Segment]]:
    """With when they were put away. (Their names have the times of writers' clocks.)"""
    for segment in segments:
        with suppress(FileNotFoundError):
            yield segment.path.stat().st_mtime, segment
