"""nginx's logs of the pixels that it answered itself: which there are, and their lines as lines of the spool. Pure.

The format is that of `deploy/nginx/tracking-pixel-log.conf`, and documented in `docs/spool.md`. A log is known by its first
line, whatever it is called: a log that was renamed, copied or unpacked goes on where it was, and a file that is begun anew
under the same name is a new one. (The first line holds milliseconds and the number of its connection.)
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from campaigns.events import MAX_USER_AGENT, EventKind
from campaigns.tokens import is_token
from tracking import private
from tracking.hits.client_ip import client_ip
from tracking.spool.lines import KEPT_HEADERS, MAX_HEADER, MAX_LINE, VERSION
from tracking.spool.reader import Line, whole_lines
from tracking.spool.seldom import is_due

logger = logging.getLogger("tracking.spool")

#: Version of the log's format.
NGINX_VERSION = 1
#: Names of positions of logs begin so; those of segments begin with a digit.
PREFIX = "nginx-"
#: Files in the folder that are not looked into.
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
#: Nobody finishes a line that is older than this, in seconds: nginx writes whole lines at once, and the rest of one that a full
#: disk cut off never comes.
TORN_SECONDS = 10.0
#: How long the position of a log that is gone is kept: one that is unpacked by then is not applied again.
GONE_SECONDS = 30 * 86_400
#: How often the same is said of the same file.
SAY_SECONDS = 3_600.0

# Before the first line there may be garbage: what a full disk or a lost power left.
_FIRST_LINE = re.compile(rb'\{"nginx":\d+,"t":"[^\n]*\n')
_HEAD_BYTES = 16_384, 2 * MAX_LINE


@dataclass(frozen=True, slots=True)
class NginxLog:
    """A log as it was when the folder was read. `name` is that of its position, and stays when the file is renamed."""

    path: Path
    size: int
    name: str

    def read_lines(self, position: int, most: int) -> list[Line]:
        """Whole lines from `position` on, as those of the spool; none when the file was renamed since (it is found again)."""
        with self._open() as file:
            lines = whole_lines(file, position, self.size, most) if file else []
        return [Line(line.start, line.end, spool_line(line.data)) for line in lines]

    def read_torn(self, position: int) -> Line | None:
        """A tail without a newline that nobody will finish."""
        with self._open() as file:
            if file is None:
                return None
            state = os.fstat(file.fileno())
            if state.st_size != self.size or time.time() - state.st_mtime < TORN_SECONDS:
                return None
            file.seek(position)
            tail = file.read(MAX_LINE)
            return None if b"\n" in tail else Line(position, self.size, tail)

    def is_here(self) -> bool:
        """Its position is kept for longer than anybody has its lines in hand."""
        return True

    def put_away(self) -> None:
        """Logs are nginx's and logrotate's."""

    def _open(self) -> AbstractContextManager[BinaryIO | None]:
        """The file, if it still is this log."""
        try:
            file = self.path.open("rb")
        except OSError:
            return nullcontext()
        if _name_of(file) == self.name:
            return file
        file.close()
        return nullcontext()


def nginx_logs(folder: Path) -> list[NginxLog]:
    """The logs in a folder, oldest first. What cannot be read, or is no log of ours, is said in our own log and passed over."""
    found: dict[str, tuple[float, NginxLog]] = {}
    for path in _files(folder):
        try:
            if not path.is_file():
                continue
            with path.open("rb") as file:
                state, name = os.fstat(file.fileno()), _name_of(file)
        except FileNotFoundError:
            continue  # it was renamed just now
        except OSError as error:
            _say(path, f"cannot be read: {error.strerror}")
            continue
        if name is None:
            continue
        log = NginxLog(path, state.st_size, name)
        if name not in found or found[name][1].size < log.size:  # a copy of it may lie beside it
            found[name] = (state.st_mtime, log)
    return [log for _, log in sorted(found.values(), key=lambda each: each[0])]


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".") and path.suffix not in COMPRESSED]
    except OSError as error:
        _say(folder, f"cannot be read: {error.strerror}")
        return []


def _name_of(file: BinaryIO) -> str | None:
    """The name of the log's position, from its first line; None while there is no whole line of nginx in it."""
    head = b""
    for size in _HEAD_BYTES:
        head += file.read(size - len(head))
        if first := _FIRST_LINE.search(head):
            return PREFIX + hashlib.blake2b(first[0], digest_size=16).hexdigest()
        if len(head) < size:
            break
    if b"\n" in head:
        _say(Path(file.name), "is no log in the format of deploy/nginx/tracking-pixel-log.conf and is left alone")
    return None


def _say(path: Path, problem: str) -> None:
    if is_due((path, problem), SAY_SECONDS):
        logger.warning("TRACKING_NGINX_LOGS: %s %s", path, problem)


def spool_line(data: bytes) -> bytes:
    """The line of the spool that the same hit would have got from our own server; `data` itself where it is no line of nginx's.

    Empty texts are headers that were not sent. Bytes beyond ASCII are Latin-1, as headers are everywhere with us.
    """
    if len(data) > MAX_LINE:
        return data
    try:
        said = orjson.loads(data if data.isascii() else data.decode("latin-1"))
        if said["nginx"] != NGINX_VERSION or not is_token(said["t"]):
            return data
        hit = {"v": VERSION, "k": EventKind.OPENED.value, "t": said["t"], "at": round(said["s"] * 1000)}
        if ip := client_ip(said["ip"], "", "", None):
            hit["ip"] = ip
        if said["m"] != "GET":
            hit["m"] = said["m"][:16]
        if agent := said["ua"]:
            hit["ua"] = agent[:MAX_USER_AGENT]
        if headers := {name: value[:MAX_HEADER] for name, value in said["h"].items() if value and name in KEPT_HEADERS}:
            hit["h"] = headers
        return orjson.dumps(hit)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return data


def long_gone(folder: Path, present: Iterable[str]) -> list[Path]:
    """Which logs this machine saw once and not any more for a long time, as files in `folder` that have the names of their positions.

    Each that is `present` is noted there. Where several machines have one database none knows of the logs of the others, so
    each has to remember its own.
    """
    private.make_private_folder(folder)
    for name in present:
        private.make_private_file(folder / name)
        os.utime(folder / name)
    limit = time.time() - GONE_SECONDS
    return [path for path in folder.iterdir() if path.stat().st_mtime < limit]
