"""The dead-letter log, file by file, compared with the audit rows of the database.

Holds one line and one page of rows at a time. The rows are read after the lines that are compared with them, so that
a server that writes meanwhile makes no difference: it commits a row before it writes the line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct
from sqlalchemy import func, select

from dtm.core import auditline
from dtm.storage.auditfiles import MAX_LINE, opened
from dtm.storage.reader import Reader
from dtm.storage.schema import audit
from dtm.storage.view import AuditLine

_PAGE = 1_000

_OUTSIDE = select(func.count()).select_from(audit)


class Difference(Struct, frozen=True):
    """The first place where the log is not what it should be: line number `line` of `file`, from 1 on."""

    file: Path
    line: int
    seq: int | None
    what: str
    wanted: str | None
    found: str


class Comparison(Struct, frozen=True):
    """How the log compares; `before` rows have no line as its first files are gone, `behind` none yet at its end."""

    files: list[Path]
    lines: int
    first: int | None
    last: int | None
    before: int
    behind: int
    is_torn: bool
    difference: Difference | None


class _Differs(Exception):
    def __init__(self, what: str, *, seq: int | None = None, wanted: str | None = None) -> None:
        super().__init__(what)
        self.what, self.seq, self.wanted = what, seq, wanted


class _Rows:
    """The audit rows in their order, a page at a time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._page: Iterator[AuditLine] = iter(())

    def after(self, seq: int) -> AuditLine | None:
        """Give the row after number `seq`, which is the one given last."""
        row = next(self._page, None)
        if row is None:
            self._page = iter(self._reader.audit_lines(after=seq, limit=_PAGE))
            row = next(self._page, None)
        return row


class _Walk:
    """One pass over the lines, and how far it came."""

    def __init__(self, reader: Reader) -> None:
        self._rows = _Rows(reader)
        self._prev: str | None = None
        self.count = 0
        self.first: int | None = None
        self.last: int | None = None
        self.is_torn = False

    def compare(self, line: bytes) -> None:
        """Compare one line, without its newline, with the next row."""
        if self.last is None:
            row = self._begin(line)
        else:
            row = self._rows.after(self.last)
        if row is None or line != row.line.encode("ascii") or not auditline.is_whole(line):
            raise self._difference(line, row)
        prev = auditline.prev_of(line)
        if self._prev is not None and prev != self._prev:
            raise _Differs(
                "does not follow the line before it, nor does the database's row",
                seq=row.seq,
                wanted=f"prev {self._prev}",
            )
        self._prev = auditline.digest(row.line)
        self.count += 1
        self.first, self.last = self.first or row.seq, row.seq

    def _begin(self, line: bytes) -> AuditLine | None:
        return self._rows.after((auditline.seq_of(line) or 1) - 1)

    def _difference(self, line: bytes, row: AuditLine | None) -> _Differs:
        seq = auditline.seq_of(line)
        wanted = None if row is None else row.line
        if seq is None:
            return _Differs("is torn or was changed, as its CRC does not fit", wanted=wanted)
        if self.last is not None and seq <= self.last:
            return _Differs(f"is number {seq} again, after number {self.last}", seq=seq, wanted=wanted)
        if row is None or (self.last is None and seq != row.seq):
            return _Differs(f"is number {seq}, which the database does not have", seq=seq, wanted=wanted)
        if seq != row.seq:
            return _Differs(f"is number {seq}, where number {row.seq} is missing", seq=seq, wanted=wanted)
        return _Differs("differs from the database's row", seq=seq, wanted=wanted)


def compare(reader: Reader, path: Path) -> Comparison:
    """Compare the log at `path`, and the files that were rotated away from it, with the rows.

    Raises:
        OSError: a file cannot be read.
        StoreFailed: the database cannot be read.
    """
    walk = _Walk(reader)
    with opened(path) as files:
        difference = next(filter(None, (_first_difference(walk, name, file, path) for name, file in files)), None)
        names = [name for name, _ in files]
    return Comparison(
        files=names,
        lines=walk.count,
        first=walk.first,
        last=walk.last,
        before=0 if walk.first is None else reader.rows(_OUTSIDE.where(audit.c.seq < walk.first))[0][0],
        behind=reader.rows(_OUTSIDE.where(audit.c.seq > (walk.last or 0)))[0][0],
        is_torn=walk.is_torn,
        difference=difference,
    )


def _first_difference(walk: _Walk, name: Path, file: BinaryIO, current: Path) -> Difference | None:
    for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE), b""), start=1):
        if not raw.endswith(b"\n") and name == current and len(raw) < MAX_LINE:
            walk.is_torn = True  # being written this moment, or cut by a crash: the next start mends it
            return None
        try:
            walk.compare(raw.removesuffix(b"\n"))
        except _Differs as found:
            text = raw.decode("ascii", "backslashreplace").rstrip("\n")
            return Difference(name, number, found.seq, found.what, found.wanted, text)
    return None
