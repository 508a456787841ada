"""The dead-letter log, written: whole lines at a time, rotated on demand, and its own witness of how far it is.

Knows no database: the lines come in, and where the log stands is read from its tail.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from dtm.core import auditline
from dtm.core.errors import DtmError
from dtm.storage.auditfiles import last_rotated, read_tail, rotated_name
from dtm.storage.disk import sync

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
        self.stands_in = path
        """The file whose last line says how far the log is: this one, or the last rotated one."""

    def open(self) -> str | None:
        """Open or create the file, cut off what a crash left torn, and give the log's last line (None: there is none).

        A file without a line goes on where the last rotated one ends.

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
            sync(self.path.parent)  # a new name in it must be as durable as the lines under it
            self.stands_in = self.path
            earlier = last_rotated(self.path) if last is None else None
            if earlier is not None:
                self.stands_in, last = earlier
                sync(self.stands_in)  # it may have been renamed by hand after a crash, unsynced
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

    def rotate(self, last: int) -> Path | None:
        """Rename the file, whose last line is number `last`, and begin an empty one; None: nothing is in it.

        A crash in between leaves no file at the path, or an empty one; `open` then finds the place in the rotated
        file.

        Raises:
            OSError: it cannot be renamed, or no new one made; the file must be opened again.
        """
        if not self._size:
            return None
        self.close()
        aside = rotated_name(self.path, last)
        self.path.rename(aside)
        sync(self.path.parent)
        self.open()
        return aside

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _mend(self, descriptor: int) -> tuple[str | None, int]:
        tail = read_tail(descriptor)
        last, length = tail.sound
        end = tail.start + length
        if last is None and tail.data and not (tail.start == 0 and _may_be_ours(tail.data)):
            raise LogRefused(f"{self.path}: is not a dead-letter log; move it away or name another --dead-letter-log")
        if length < len(tail.data):
            os.ftruncate(descriptor, end)
        # What a crash left is readable but perhaps not yet on disk, and nobody will ever write it again.
        os.fsync(descriptor)
        return last, end


def _may_be_ours(tail: bytes) -> bool:
    # After a power cut the first lines may be there in part, or as the zeros of a sector that was never written.
    return tail.startswith(b"\0") or auditline.FIRST_BYTES.startswith(tail) or _BEGINNING.match(tail) is not None
