"""The dead-letter log on disk: appended to whole lines at a time, and its own witness of how far it is.

Knows no database: the lines come in, and where the file stands is read from its tail.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from dtm.core import auditline
from dtm.core.errors import DtmError

MAX_APPEND = 512 * 1024
"""Bytes written and synced at once. A crash can damage no more than this, so that a longer tail shows where it is."""

_TAIL = 2 * MAX_APPEND

# Whole, or torn at any byte; other programs write numbered JSON lines too.
_BEGINNING = re.compile(auditline.FIRST_BYTES + rb'[0-9]*(?:,"at":"|,?"?a?t?"?:?\Z)')


class LogRefused(DtmError):
    """The file at the log's path cannot be this store's log; it was not touched."""


class AuditLog:
    """An append-only file of audit lines, open for as long as it is the one at its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._size = 0

    def open(self) -> str | None:
        """Open or create the file, cut off what a crash left torn, and give the last line (None: there is none).

        Raises:
            LogRefused: it is a symbolic link, no regular file, or no dead-letter log.
            OSError: the file cannot be opened.
        """
        self.close()
        if self.path.is_symlink():
            raise LogRefused(f"{self.path}: is a symbolic link; name the file itself as --dead-letter-log")
        wanted = ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | sum(getattr(os, name, 0) for name in wanted)
        descriptor = os.open(self.path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise LogRefused(f"{self.path}: is not a regular file; name another --dead-letter-log")
            last, self._size = self._mend(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return last

    @property
    def is_current(self) -> bool:
        """Whether the open file is still the one at the path: nobody moved it, deleted it, cut it or wrote to it."""
        if self._descriptor is None:
            return False
        try:
            there, here = self.path.lstat(), os.fstat(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino, here.st_size) == (here.st_dev, here.st_ino, self._size)

    def append(self, lines: Sequence[str]) -> None:
        """Write whole lines, together no longer than `MAX_APPEND`, at the end and wait until they are on disk.

        Raises:
            OSError: they are not; the file must be opened again.
        """
        assert self._descriptor is not None
        data = memoryview("".join(f"{line}\n" for line in lines).encode("ascii"))
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            os.fsync(self._descriptor)
        except OSError:
            self.close()
            raise
        self._size += len(data)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _mend(self, descriptor: int) -> tuple[str | None, int]:
        size = os.fstat(descriptor).st_size
        start = max(0, size - _TAIL)
        os.lseek(descriptor, start, os.SEEK_SET)
        tail = os.read(descriptor, size - start)
        if start:
            first = tail.find(b"\n") + 1
            start, tail = start + first, tail[first:]
        last, length = _whole_part(tail)
        if last is None and tail and not (start == 0 and _may_be_ours(tail)):
            raise LogRefused(f"{self.path}: is not a dead-letter log; move it away or name another --dead-letter-log")
        if length < len(tail):
            os.ftruncate(descriptor, start + length)
            os.fsync(descriptor)
        return last, start + length


def _may_be_ours(tail: bytes) -> bool:
    # After a power cut the first lines may be there in part, or as the zeros of a sector that was never written.
    return tail.startswith(b"\0") or auditline.FIRST_BYTES.startswith(tail) or _BEGINNING.match(tail) is not None


def _whole_part(tail: bytes) -> tuple[str | None, int]:
    """Give the last line of the sound beginning of `tail`, and the length of that beginning."""
    last, length = None, 0
    for line in tail.split(b"\n")[:-1]:
        if auditline.seq_of(line) is None:
            break
        last, length = line.decode("ascii"), length + len(line) + 1
    return last, length
