"""Keeps the dead-letter log equal to the audit rows: never ahead of them, and behind only while the file fails.

Trouble with the file never stops tasks; it is logged, shows as lag in the statistics, and heals by itself.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence

import structlog
from anyio import Event, move_on_after

from dtm.core import auditline
from dtm.server.audit_log import AuditLog, LogRefused
from dtm.server.machine import InThread
from dtm.storage.auditfiles import MAX_APPEND
from dtm.storage.reader import Reader
from dtm.storage.view import AuditLine

RETRY_S = 1.0
_LINES_READ = 1_000

# What a person has to mend, and may still be looking. A full or failing disk is none of these, and heals.
_MISTAKES = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG}
)

log = structlog.get_logger()


class Projector:
    """Copies audit rows to the log, from where the log's own last line stands."""

    def __init__(self, reader: Reader, file: AuditLog, in_thread: InThread) -> None:
        self._reader = reader
        self._file = file
        self._in_thread = in_thread
        self._position = 0
        self._wanted = Event()
        self._is_rotation_wanted = False
        self._trouble: str | None = None

    @property
    def position(self) -> int:
        """The number of the last audit row that is surely in the log."""
        return self._position

    def start(self) -> None:
        """Find out where the log stands, and bring it up to date.

        Raises:
            LogRefused: the file is no log, or the log of another store, or its path is a mistake.
        """
        try:
            self._catch_up()
        except OSError as error:
            if error.errno in _MISTAKES:
                raise LogRefused(
                    f"{self._file.path}: the dead-letter log cannot be opened ({error.strerror}); "
                    "check the path, its folder and their rights, or name another --dead-letter-log"
                ) from error
            self._note_trouble(error)

    def wake(self) -> None:
        """Say that there are new audit rows."""
        self._wanted.set()

    def rotate(self) -> None:
        """Ask for the log to be put aside and a new one begun, once it is up to date."""
        self._is_rotation_wanted = True
        self.wake()

    async def run(self, on_moved: Callable[[int], None]) -> None:
        """Copy whenever there is something new, for ever; `on_moved` hears each new position."""
        while True:
            with move_on_after(RETRY_S):
                await self._wanted.wait()
            self._wanted = Event()
            before = self._position
            await self._in_thread(self.catch_up)
            if self._position != before:
                on_moved(self._position)

    def catch_up(self) -> None:
        """Bring the log up to date if the file allows it."""
        try:
            self._catch_up()
        except (OSError, LogRefused) as error:
            self._note_trouble(error)
        else:
            if self._trouble is not None:
                log.info("dead-letter-log.recovered", path=str(self._file.path), position=self._position)
            self._trouble = None

    def _catch_up(self) -> None:
        if not self._file.is_current:
            self._position = self._find_position(self._file.open())
        while lines := self._reader.audit_lines(after=self._position, limit=_LINES_READ):
            for piece in _pieces(lines):
                self._file.append([line.line for line in piece])
                self._position = piece[-1].seq
        if self._is_rotation_wanted:
            aside = self._file.rotate(self._position)
            self._is_rotation_wanted = False
            log.info("dead-letter-log.rotated", put_aside=None if aside is None else str(aside))

    def _find_position(self, last: str | None) -> int:
        if last is None:
            return 0
        seq = auditline.seq_of(last.encode("ascii")) or 0
        known = self._reader.audit_lines(after=seq - 1, limit=1)
        if not known or known[0] != AuditLine(seq, last):
            self._file.close()
            raise LogRefused(
                f"{self._file.stands_in}: its last line, number {seq}, is not in this database, so it is another "
                "store's log or the database was restored; move it away or name another --dead-letter-log"
            )
        return seq

    def _note_trouble(self, error: Exception) -> None:
        trouble = str(error)
        if trouble != self._trouble:
            log.error("dead-letter-log.trouble", path=str(self._file.path), reason=trouble)
        self._trouble = trouble


def _pieces(lines: Sequence[AuditLine]) -> Iterator[list[AuditLine]]:
    piece: list[AuditLine] = []
    size = 0
    for line in lines:
        if piece and size + len(line.line) + 1 > MAX_APPEND:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line.line) + 1
    yield piece
