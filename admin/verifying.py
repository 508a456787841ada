"""The dead-letter log compared with the database, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtm.core.escapes import escaped
from dtm.storage.lock import Holder
from dtm.storage.verify import Comparison, Difference, compare

from .documents import Document
from .errors import CommandRefused, NotFound
from .gateway import live_server, reading_file
from .wording import counted


@dataclass(frozen=True, slots=True)
class Verified:
    """How the log at `log` compares, and the server that writes it, if one does."""

    log: Path
    server: Holder | None
    comparison: Comparison

    @property
    def is_equal(self) -> bool:
        """Whether the log is what it should be; a live server may be about to write its end."""
        found = self.comparison
        is_complete = not (found.behind or found.is_torn) or self.server is not None
        return found.difference is None and is_complete


def verify(db: Path, log: Path) -> Verified:
    """Compare the log at `log` with the store at `db`.

    Raises:
        NotFound: there is no log.
        CommandRefused: a file of it cannot be read.
    """
    # Who is asked for first: a server that has ended since has written everything.
    server = live_server(db)
    try:
        with reading_file(db) as reader:
            comparison = compare(reader, log)
    except OSError as error:
        raise CommandRefused(f"{error.filename}: cannot be read ({error.strerror})") from error
    if not comparison.files:
        raise NotFound(f"wanted the dead-letter log at {log}, found no file there; name it as --dead-letter-log")
    return Verified(log, server, comparison)


def text(verified: Verified) -> str:
    """Say in a few lines how the log compares."""
    return "\n".join(_lines(verified))


def _lines(verified: Verified) -> Iterator[str]:
    found = verified.comparison
    if found.difference is not None:
        yield from _difference(found.difference)
    where = f"in {counted(len(found.files), 'file')}"
    numbers = "" if found.first is None else f", number {found.first} to {found.last}"
    yield f"{counted(found.lines, 'line')} {where} equal the database{numbers}."
    if found.before:
        yield f"{counted(found.before, 'line')} before that stand in no file here."
    if found.difference is None and (found.behind or found.is_torn):
        why = "the server is about to write it" if verified.server else "the next start of the server mends that"
        yield f"The log is behind by {counted(found.behind, 'line')}; {why}."


def _difference(found: Difference) -> Iterator[str]:
    yield f"DIFFERENT: {escaped(str(found.file))}, line {found.line}: {found.what}"
    yield f"  wanted: {'no such line' if found.wanted is None else escaped(found.wanted)}"
    yield f"  found:  {escaped(found.found)}"


def document(verified: Verified) -> Document:
    """Give the same for programs."""
    found, difference = verified.comparison, verified.comparison.difference
    return {
        "equal": verified.is_equal,
        "files": [str(file) for file in found.files],
        "lines": found.lines,
        "first": found.first,
        "last": found.last,
        "before": found.before,
        "behind": found.behind,
        "torn": found.is_torn,
        "server": verified.server is not None,
        "difference": None
        if difference is None
        else {
            "file": str(difference.file),
            "line": difference.line,
            "seq": difference.seq,
            "what": difference.what,
            "wanted": difference.wanted,
            "found": difference.found,
        },
    }
