"""A page of numbers: a file in shared memory that one process writes and every process may read. Pure.

It holds one record after another: the size of the name, the name padded to eight bytes, the number. Its process holds a `flock`
on it, so a page whose lock is free is a dead process's.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from pathlib import Path

BYTES = 16 * 1024
_HEAD = struct.Struct("=II")  # bytes of the name (0 after the last record), and nothing
_NUMBER = struct.Struct("=q")
#: A number as it stands in a page. It is put there by a slice: struct.pack_into clears the place first, and a reader may see that.
pack = _NUMBER.pack


class Page:
    """This process's. Raises OSError where it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._used = 0
        # Locked before it has its name: nobody takes it for a dead process's.
        hidden = path.with_name(f".{path.name}.new")
        self._descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._lengthen(0, BYTES)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.memory = mmap.mmap(self._descriptor, BYTES)
            hidden.rename(path)
        except OSError:
            os.close(self._descriptor)
            hidden.unlink(missing_ok=True)
            raise

    def place(self, name: str) -> int:
        """Where in `memory` the number of a new name is."""
        text = os.fsencode(name)
        start, padded = self._used + _HEAD.size, text + bytes(-len(text) % 8)
        end = start + len(padded) + _NUMBER.size
        while end + _HEAD.size > (size := len(self.memory)):
            self._lengthen(size, 2 * size)
            try:
                self.memory.resize(2 * size)
            except SystemError as error:  # the system has no mremap
                raise OSError(str(error)) from None
        self.memory[start : end - _NUMBER.size] = padded
        self.memory[self._used : start] = _HEAD.pack(len(text), 0)  # last: now a reader sees it
        self._used = end
        return end - _NUMBER.size

    def close(self) -> None:
        """In a child this leaves the parent's lock as it is."""
        self.memory.close()
        os.close(self._descriptor)

    def _lengthen(self, size: int, to: int) -> None:
        """By writing: a mapped place that was written cannot lack memory later."""
        if os.pwrite(self._descriptor, bytes(to - size), size) < to - size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_page(path: Path, owners: set[int]) -> tuple[dict[str, int], bool] | None:
    """The numbers in a page by name, and whether its process lives; None where it is gone, no page, or of none of these users."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if found.st_uid not in owners:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            alive = False
        except BlockingIOError:
            alive = True
        return _parse(os.pread(descriptor, found.st_size, 0)), alive
    except (OSError, ValueError, struct.error):
        return None
    finally:
        os.close(descriptor)


def _parse(data: bytes) -> dict[str, int]:
    found, at = {}, 0
    while at + _HEAD.size <= len(data) and (size := _HEAD.unpack_from(data, at)[0]):
        at += _HEAD.size
        name = os.fsdecode(data[at : at + size])
        at += size + -size % 8
        found[name] = _NUMBER.unpack_from(data, at)[0]
        at += _NUMBER.size
    return found
