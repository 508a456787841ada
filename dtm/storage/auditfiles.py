"""The dead-letter log as it lies on disk: the file that grows, and those that were rotated.

Knows no database. What was rotated keeps its place in the log: `NAME.17` and `NAME-20261124`
are parts of it, whoever renamed them; any other name is not.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from dtm.core import auditline
from dtm.storage.disk import sync

MAX_APPEND = 512 * 1024
"""Bytes written and synced at once. A crash can damage no more than this, so that a longer tail shows where it is."""

_TAIL = 2 * MAX_APPEND

MAX_LINE = MAX_APPEND
"""Bytes of a line read at most; what is longer is no line of ours."""

# Wide enough that names sort as numbers do.
_DIGITS = 16


class Tail(Struct, frozen=True):
    """The end of a file, from the first line that is in it whole."""

    start: int
    data: bytes

    @property
    def sound(self) -> tuple[str | None, int]:
        """The last line of the sound beginning of the tail, and the length of that beginning."""
        last, length = None, 0
        for line in self.data.split(b"\n")[:-1]:
            if auditline.seq_of(line) is None:
                break
            last, length = line.decode("ascii"), length + len(line) + 1
        return last, length


def read_tail(descriptor: int) -> Tail:
    """Read as much of an open file's end as a crash can have damaged, and at least as much before it."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - _TAIL)
    os.lseek(descriptor, start, os.SEEK_SET)
    data = os.read(descriptor, size - start)
    if start:
        first = data.find(b"\n") + 1
        start, data = start + first, data[first:]
    return Tail(start, data)


def rotated(path: Path) -> list[Path]:
    """List the files that were once the log at `path`, in the order of their names."""
    name = re.compile(re.escape(path.name) + r"[.-][0-9]+")
    try:
        found = sorted(path.parent.iterdir())
    except FileNotFoundError:
        return []
    return [file for file in found if name.fullmatch(file.name) and _is_regular(file)]


def rotated_name(path: Path, seq: int) -> Path:
    """Give the name under which the log at `path`, whose last line is number `seq`, is rotated."""
    aside = path.with_name(f"{path.name}.{seq:0{_DIGITS}}")
    while os.path.lexists(aside):  # the log was written anew, and an earlier one of that name came back
        aside = aside.with_name(f"{aside.name}0")
    return aside


def move_aside(path: Path, name: str) -> list[Path]:
    """Rename all files of the log at `path` so that they are no part of it any more, and give their new names.

    Raises:
        OSError: one cannot be renamed.
    """
    moved = [file.rename(file.with_name(f"{file.name}.{name}")) for file in _parts(path)]
    if moved:
        sync(path.parent)
    return moved


def log_end(path: Path) -> tuple[Path, str] | None:
    """Give the log's last whole line, and the file that it stands in; None if there is no line."""
    try:
        last = _last_line(path)
    except FileNotFoundError:
        last = None
    return last_rotated(path) if last is None else (path, last)


def last_rotated(path: Path) -> tuple[Path, str] | None:
    """Find the highest line in the files that were rotated, and the file that ends with it."""
    while True:
        listed = rotated(path)
        try:
            ends = [(file, _last_line(file)) for file in listed]
        except FileNotFoundError:
            continue  # somebody is renaming them this moment
        if rotated(path) == listed:
            break
    found = [(auditline.seq_of(line.encode("ascii")) or 0, file, line) for file, line in ends if line is not None]
    if not found:
        return None
    _, file, line = max(found)
    return file, line


@contextmanager
def opened(path: Path) -> Iterator[list[tuple[Path, BinaryIO]]]:
    """Open all files of the log at `path` for reading, in the order of their first lines.

    They are those of one moment: who rotates the log afterwards renames what is open already.
    """
    while True:
        with ExitStack() as stack:
            try:
                files = [(file, stack.enter_context(_open(file))) for file in _parts(path)]
                inodes = [os.fstat(file.fileno()).st_ino for _, file in files]
                if inodes != [file.lstat().st_ino for file in _parts(path)]:
                    continue
            except FileNotFoundError:
                continue  # it was renamed this moment
            yield sorted(files, key=lambda file: _first_seq(file[1]))
            return


def _parts(path: Path) -> list[Path]:
    return [*rotated(path), *([path] if _is_regular(path) else [])]


def _open(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)), "rb")


def _first_seq(file: BinaryIO) -> int:
    # A file without a sound first line comes first: what is wrong with it is then told at once.
    seq = auditline.seq_of(file.readline(MAX_LINE).rstrip(b"\n"))
    file.seek(0)
    return -1 if seq is None else seq


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _last_line(path: Path) -> str | None:
    with _open(path) as file:
        return read_tail(file.fileno()).sound[0]
