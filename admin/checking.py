"""A store checked, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from dtm.core.escapes import escaped
from dtm.storage import check as claims
from dtm.storage.auditfiles import log_end
from dtm.storage.check import Finding
from dtm.storage.inspect import is_backup
from dtm.storage.lock import Holder
from dtm.storage.statistics import held_tasks, log_lag

from .documents import Document
from .errors import CommandRefused
from .gateway import live_server, reading_file
from .wording import counted

_OTHERS = 0o077


@dataclass(slots=True)
class Checked:
    """What was looked at, what is wrong, and what is worth knowing although it is right."""

    db: Path
    server: Holder | None
    claims: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self) -> None:
        """Note that one more claim was looked at."""
        self.claims += 1


def check(db: Path, log: Path) -> Checked:
    """Check the store at `db`, and that its log's end fits.

    Raises:
        CommandRefused: the log cannot be read.
    """
    checked = Checked(db, live_server(db))
    with reading_file(db) as reader:
        checked.findings += claims.check(reader, db, checked.count)
        try:
            checked.findings += claims.check_log(reader, log)
            lacks_log = log_end(log) is None and bool(reader.audit_lines(after=0, limit=1))
        except OSError as error:
            raise CommandRefused(f"{error.filename}: cannot be read ({error.strerror})") from error
        checked.count()
        lag, held = log_lag(reader), held_tasks(reader)
    checked.notes += _notes(checked, lacks_log=lacks_log, lag=lag, held=held)
    return checked


def _notes(checked: Checked, *, lacks_log: bool, lag: int, held: int) -> Iterator[str]:
    if is_backup(checked.db):
        yield "this is a backup; 'dtm-admin restore' puts it in place"
    elif checked.server is None and held:
        yield f"{counted(held, 'task')} assigned when the server ended; the next start gives their clients time to come"
    if lag:
        yield f"the log was {counted(lag, 'line')} behind when its place was last noted"
    if lacks_log:
        yield "no line of a log was found; name it as --dead-letter-log"
    mode = checked.db.stat().st_mode
    if mode & _OTHERS:
        yield f"others than its owner may read or write the database (mode {mode & 0o777:04o})"


def text(checked: Checked) -> str:
    """Write what was found, a line each, and the sum at the end."""
    return "\n".join(_lines(checked))


def _lines(checked: Checked) -> Iterator[str]:
    for finding in checked.findings:
        yield f"WRONG: wanted that {finding.claim}; found"
        yield from (f"  {escaped(example)}" for example in finding.examples)
        if len(finding.examples) == claims.MAX_EXAMPLES:
            yield "  and perhaps more"
    yield from (f"Note: {note}." for note in checked.notes)
    sum_ = counted(len(checked.findings), "finding") if checked.findings else "no findings"
    yield f"Checked {escaped(str(checked.db))}: {counted(checked.claims, 'claim')}, {sum_}."


def document(checked: Checked) -> Document:
    """Give the same for programs."""
    return {
        "db": str(checked.db),
        "server": checked.server is not None,
        "claims": checked.claims,
        "findings": [structs.asdict(finding) for finding in checked.findings],
        "notes": checked.notes,
    }
