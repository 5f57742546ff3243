"""The writing end of the spool: one append-only segment a process, one `write()` a hit or group. Pure.

A segment is `<milliseconds>-<chance>.jsonl` in the spool's folder. Its writer holds a `flock` on it; a segment whose lock is
free has no writer any more. Names carry chance, so a name never comes back, and a position in a segment means the same hits
for ever.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from campaigns.events import now_ms
from tracking import private
from tracking.metrics.names import UNSAID, count_loss, settle_loss
from tracking.metrics.shared import close_counters, process_counters
from tracking.spool.lines import lost_line

logger = logging.getLogger("tracking.spool")

SEGMENT_BYTES = 64 * 1024 * 1024
SEGMENT_SECONDS = 3600
#: How long the power may be away before a hit is on the disk, with fsync by interval. Death of the process loses nothing.
SYNC_SECONDS = 0.05
#: After a failure the disk is tried again this much later; until then hits are answered and counted as lost.
RETRY_SECONDS = 1.0
#: A sync that takes less is not worth a thread: to hand it over and back takes 0.2 ms.
QUICK_SECONDS = 0.001


class SpoolWriter:
    """Appends lines to segments of its own. Never raises: what cannot be written is counted, and said in the next segment.

    `fsync` is `interval` (answer after the write, sync every 50 ms in the background) or `always` (answer after the sync; those
    who wait share one).
    """

    def __init__(self, folder: Path, fsync: str = "interval") -> None:
        self.folder = folder
        self.always = fsync == "always"
        self.counters = process_counters(folder)
        self.lost = 0  # hits not written and not yet said in a segment
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._pid = os.getpid()
        self._descriptor = -1
        self._path = self.folder
        self._size = 0
        self._opened = 0.0
        self._retry_at = 0.0
        self._logged_at = float("-inf")
        self._written = self._synced = 0  # groups
        self.quick = False  # whether the last sync was, and none is under way
        self._unsafe = 0  # the last group whose segment ended without being synced
        self._syncer: threading.Thread | None = None

    def append(self, line: bytes) -> bool:
        """Write one line. False when it was lost to a full or failing disk."""
        return self.append_many((line,))

    def append_many(self, lines: Sequence[bytes]) -> bool:
        """Write a group by one `write()`. False when it was lost, or a part of it."""
        with self._lock:
            if not self._write(lines):
                return False
            self._written += 1
            number = self._written
        if self.always:
            return self._sync(number)
        if self._syncer is None:
            self._start_syncer()
        return True

    def close(self) -> None:
        """End the segment, synced, with what was lost said in it. The next append begins a new one."""
        with self._sync_lock, self._lock:
            if self.lost:
                self._write(())
            self._end_segment()

    def adopt_losses(self) -> None:
        """Say what writers that died had lost and not said."""
        if lost := self.counters.claim(UNSAID):
            with self._lock:
                self.lost += lost
                self.counters.add(UNSAID, lost)
            self.close()

    # -- under the lock

    def _write(self, lines: Sequence[bytes]) -> bool:
        """Whether all of it was written; what was not is counted as lost."""
        now = time.monotonic()
        if self._descriptor >= 0 and (self._size >= SEGMENT_BYTES or now - self._opened > SEGMENT_SECONDS):
            self._end_segment()
        try:
            if self._descriptor < 0:
                if now < self._retry_at:
                    self._lose(len(lines))
                    return False
                self._begin_segment()
            said = (lost_line(self.lost),) if self.lost else ()
            data = b"".join((*said, *lines))
            written = os.write(self._descriptor, data)
        except OSError as error:
            self._lose(len(lines))
            self._fail(error)
            return False
        # Of a short write the whole lines stay: a reader may have seen them already.
        whole = written if written == len(data) else data.rfind(b"\n", 0, written) + 1
        self._size += whole
        if said and whole:
            settle_loss(self.counters, self.lost)
            logger.warning("%s can be written again; %d hits were lost", self.folder, self.lost)
            self.lost = 0
        if whole == len(data):
            return True
        self._lose(len(lines) - max(0, data.count(b"\n", 0, whole) - len(said)))
        self._fail(OSError("short write: the disk is full"))
        return False

    def _lose(self, hits: int) -> None:
        self.lost += hits
        count_loss(self.counters, hits)

    def _begin_segment(self) -> None:
        private.make_private_folder(self.folder)
        name = f"{now_ms():013d}-{secrets.token_hex(8)}"
        # Locked before it has its name: a reader never sees a segment of a living writer unlocked.
        hidden = self.folder / f".{name}.new"
        descriptor = os.open(hidden, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            private.give_as(descriptor, self.folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(self.folder / f"{name}.jsonl")
            _sync_folder(self.folder)
        except OSError:
            os.close(descriptor)
            for path in (hidden, self.folder / f"{name}.jsonl"):
                with suppress(OSError):
                    path.unlink()
            raise
        self._descriptor, self._size, self._opened = descriptor, 0, time.monotonic()
        self._path = self.folder / f"{name}.jsonl"

    def _end_segment(self) -> None:
        if self._descriptor < 0:
            return
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._unsafe = self._written
            logger.error("cannot sync %s: %s", self.folder, error)
        self._synced = self._written
        os.close(self._descriptor)
        self._descriptor = -1

    def _fail(self, error: OSError) -> None:
        """Close the segment, without the half of a line that a short write left; begin another a little later."""
        now = time.monotonic()
        if self._descriptor >= 0:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
                if not self._size:  # a full disk still makes empty files, one at each try
                    self._path.unlink()
            self._end_segment()
        self._retry_at = now + RETRY_SECONDS
        if now - self._logged_at >= 60:
            self._logged_at = now
            logger.error("hits are answered but lost, %d so far: %s cannot be written: %s", self.lost, self.folder, error)

    def _leave(self, descriptor: int) -> None:
        """Begin another segment: somebody removed this one, and what is in it is for nobody."""
        with self._lock:
            if descriptor == self._descriptor:
                logger.error("%s was removed while hits were written into it; those are lost", self._path)
                self._end_segment()
                self._unsafe = self._written

    # -- syncing

    def _sync(self, number: int) -> bool:
        with self._sync_lock:
            with self._lock:
                descriptor, upto = self._descriptor, self._written
            if self._synced >= number or descriptor < 0:
                return number > self._unsafe
            began, self.quick = time.monotonic(), False
            try:
                os.fdatasync(descriptor)
                self.quick = time.monotonic() - began < QUICK_SECONDS
                removed = not os.fstat(descriptor).st_nlink
            except OSError as error:
                if self._synced >= number:  # the segment ended meanwhile, and was synced for that
                    return number > self._unsafe
                logger.error("cannot sync %s: %s", self.folder, error)
                return False
            self._synced = max(self._synced, upto)
            if removed:
                self._leave(descriptor)
            return not removed

    def _start_syncer(self) -> None:
        with self._lock:
            if self._syncer is None:
                syncer = threading.Thread(target=self._sync_for_ever, name="spool-sync", daemon=True)
                with suppress(RuntimeError):  # no thread is to be had: the next hit tries again
                    syncer.start()
                    self._syncer = syncer

    def _sync_for_ever(self) -> None:
        while True:
            time.sleep(SYNC_SECONDS)
            if self._synced < self._written:
                self._sync(self._written)


def _sync_folder(folder: Path) -> None:
    """So that a new name in it outlives the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_writers: dict[tuple[Path, str], SpoolWriter] = {}
_making = threading.Lock()


def process_writer(folder: Path, fsync: str = "interval") -> SpoolWriter:
    """This process's writer for a spool, the same for all its threads."""
    writer = _writers.get((folder, fsync))
    if writer is None:
        with _making:
            writer = _writers.setdefault((folder, fsync), SpoolWriter(folder, fsync))
    return writer


def close_writers() -> None:
    """End the segments of this process, synced, so that readers see them whole; and its pages of numbers."""
    for writer in list(_writers.values()):
        writer.close()
    close_counters()


def _after_fork() -> None:
    """A child has its own segment: close the copy of the parent's descriptor (the lock stays with the parent)."""
    global _making
    _making = threading.Lock()
    for writer in _writers.values():
        if writer._descriptor >= 0:
            os.close(writer._descriptor)
        writer.lost = 0
        writer._reset()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close_writers)
