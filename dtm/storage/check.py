"""What must hold in a store at every moment at which no transaction is open, looked at claim by claim.

Each claim is one statement, and so of one moment, also beside a server that writes. Holds a few rows at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct
from sqlalchemy import TextClause, text

from dtm.core import auditline
from dtm.storage.auditfiles import log_end
from dtm.storage.errors import StoreFailed, StoreRefused
from dtm.storage.inspect import is_backup
from dtm.storage.reader import Reader
from dtm.storage.view import AuditLine
from dtm.storage.witness import Witness, require_not_older

MAX_EXAMPLES = 5
_PAGE = 1_000


class Finding(Struct, frozen=True):
    """A claim that does not hold, with the first examples of what is wrong."""

    claim: str
    examples: list[str]


def _wrong(query: str) -> TextClause:
    return text(f"{query} LIMIT {MAX_EXAMPLES}")


_CLAIMS = {
    "the pages, tables and indexes of the file are sound": _wrong(
        f"SELECT integrity_check FROM pragma_integrity_check({MAX_EXAMPLES}) WHERE integrity_check <> 'ok'"
    ),
    "every row refers to one that is there": _wrong(
        "SELECT 'row ' || rowid || ' of ' || \"table\" || ' refers to no ' || parent FROM pragma_foreign_key_check"
    ),
    "the database keeps a write-ahead log": _wrong(
        "SELECT 'its journal mode is ' || journal_mode FROM pragma_journal_mode WHERE journal_mode <> 'wal'"
    ),
    "the books tell how many tasks of each kind are in each state": _wrong("""
        SELECT 'kind ' || kind || ', ' || state || ': ' || sum(there) || ' there, ' || sum(booked) || ' booked' FROM (
            SELECT kind, state, count(*) AS there, 0 AS booked FROM tasks GROUP BY kind, state
            UNION ALL SELECT kind, state, 0, tasks FROM counts)
        GROUP BY kind, state HAVING sum(there) <> sum(booked)"""),
    "an assigned task has its live assignment": _wrong("""
        SELECT 'task ' || id FROM tasks WHERE state = 'assigned' AND NOT EXISTS (
            SELECT * FROM assignments AS a
            WHERE a.id = tasks.assignment_id AND a.task_id = tasks.id AND a.finished_at IS NULL)"""),
    "a live assignment is its task's current one": _wrong("""
        SELECT 'assignment ' || id FROM assignments AS a WHERE finished_at IS NULL AND NOT EXISTS (
            SELECT * FROM tasks WHERE tasks.assignment_id = a.id AND tasks.id = a.task_id)"""),
    "nothing is assigned to a client that has left": _wrong("""
        SELECT 'task ' || a.task_id || ', client ' || c.id FROM assignments AS a JOIN clients AS c ON c.id = a.client_id
        WHERE a.finished_at IS NULL AND c.left_at IS NOT NULL"""),
    "no task was completed twice": _wrong("""
        SELECT 'task ' || task_id FROM assignments WHERE outcome = 'completed' GROUP BY task_id HAVING count(*) > 1"""),
    "a task is completed if and only if an assignment of it is": _wrong("""
        SELECT 'task ' || id FROM tasks WHERE (state = 'completed') <> EXISTS (
            SELECT * FROM assignments AS a WHERE a.task_id = tasks.id AND a.outcome = 'completed')"""),
    "a task is dead if and only if it has an open dead letter": _wrong("""
        SELECT 'task ' || id FROM (
            SELECT id FROM tasks WHERE (state = 'dead') <> EXISTS (
                SELECT * FROM dead_letters AS d WHERE d.task_id = tasks.id AND d.resolved_at IS NULL)
            UNION ALL SELECT task_id FROM dead_letters AS d WHERE resolved_at IS NULL
                AND NOT EXISTS (SELECT * FROM tasks WHERE id = d.task_id AND state = 'dead'))"""),
    "a task has the instant of its end if and only if it has ended": _wrong("""
        SELECT 'task ' || id FROM tasks WHERE (finished_at IS NOT NULL)
            <> (state IN ('completed', 'dead', 'cancelled', 'expired'))"""),
    "only a running attempt has a deadline, and its task's timeout sets it": _wrong("""
        SELECT 'task ' || t.id FROM tasks AS t LEFT JOIN assignments AS a ON a.id = t.assignment_id
        WHERE t.deadline_at IS NOT NULL AND t.deadline_at IS NOT a.assigned_at + t.timeout"""),
    "a task that was to stop is not given out again": _wrong("""
        SELECT 'task ' || id FROM tasks
        WHERE cancel_requested_at IS NOT NULL AND state NOT IN ('assigned', 'completed', 'cancelled')"""),
    "a cancelled task was to stop": _wrong("""
        SELECT 'task ' || id FROM tasks WHERE state = 'cancelled' AND cancel_requested_at IS NULL"""),
    "no attempt began after its task had expired": _wrong("""
        SELECT 'task ' || t.id || ', assignment ' || a.id FROM tasks AS t JOIN assignments AS a ON a.task_id = t.id
        WHERE t.expires_at IS NOT NULL AND a.assigned_at >= t.expires_at"""),
    "a task expires only if it has an expiry": _wrong("""
        SELECT 'task ' || id FROM tasks
        WHERE state = 'expired' AND (expires_at IS NULL OR finished_at < expires_at)"""),
    "no task was tried more often than it may be": _wrong("""
        SELECT 'task ' || id FROM tasks WHERE retry_count > max_retries
            OR (retry_count = max_retries AND state <> 'dead')"""),
    "each dead letter and what became of it is in the audit": _wrong("""
        SELECT event || ': ' || letters || ' dead letters, ' || told || ' audit rows' FROM (
            SELECT 'dead' AS event, (SELECT count(*) FROM dead_letters) AS letters,
                (SELECT count(*) FROM audit WHERE event = 'dead') AS told
            UNION ALL SELECT 'reprocessed', (SELECT count(*) FROM dead_letters WHERE resolution = 'reprocessed'),
                (SELECT count(*) FROM audit WHERE event = 'reprocessed')
            UNION ALL SELECT 'cleared', (SELECT count(*) FROM dead_letters WHERE resolution = 'cleared'),
                (SELECT count(*) FROM audit WHERE event = 'cleared'))
        WHERE letters <> told"""),
    "no number given out is above the last one remembered": _wrong("""
        SELECT 'table ' || name || ': ' || highest || ' above ' || seq FROM (
            SELECT 'tasks' AS name, (SELECT max(id) FROM tasks) AS highest
            UNION ALL SELECT 'clients', (SELECT max(id) FROM clients)
            UNION ALL SELECT 'assignments', (SELECT max(id) FROM assignments)
            UNION ALL SELECT 'dead_letters', (SELECT max(id) FROM dead_letters)) JOIN sqlite_sequence USING (name)
        WHERE highest > seq"""),
    "the log is not ahead of the audit": _wrong("""
        SELECT 'line ' || log_position FROM meta WHERE log_position > coalesce((SELECT max(seq) FROM audit), 0)"""),
}
_IDENTITY = text("SELECT store_id, epoch FROM meta")

CLAIMS = [*_CLAIMS, "each audit row is whole and follows the one before it"]
"""What `check` looks at in the database, in this order."""


def check(reader: Reader, path: Path, on_checked: Callable[[], None]) -> Iterator[Finding]:
    """Check the store at `path`, claim by claim; `on_checked` is called after each."""
    for claim, query in _CLAIMS.items():
        if claim == "the database keeps a write-ahead log" and is_backup(path):
            continue  # a copy has none before it is restored
        yield from _found(claim, lambda query=query: [str(row[0]) for row in reader.rows(query)])  # type: ignore[misc]
        on_checked()
    yield from _found(CLAIMS[-1], lambda: _breaks(reader))
    on_checked()
    yield from _found("the store is the one that last ran here", lambda: _older(reader, path))
    on_checked()


def check_log(reader: Reader, log: Path) -> Iterator[Finding]:
    """Check that the log's last line is one of the store's; `audit verify` looks at every line.

    Raises:
        OSError: the log cannot be read.
    """
    end = log_end(log)
    if end is None:
        return
    file, line = end
    seq = auditline.seq_of(line.encode("ascii")) or 0
    if reader.audit_lines(after=seq - 1, limit=1) != [AuditLine(seq, line)]:
        yield Finding("the log's last line is in the database", [f"{file}: number {seq} is not"])


def _found(claim: str, look: Callable[[], list[str]]) -> Iterator[Finding]:
    try:
        examples = look()
    except StoreFailed as error:
        examples = [str(error)]
    if examples:
        yield Finding(claim, examples)


def _older(reader: Reader, path: Path) -> list[str]:
    store, epoch = reader.rows(_IDENTITY)[0]
    try:
        require_not_older(path, Witness(store, epoch))
    except StoreRefused as error:
        return [str(error)]
    return []


def _breaks(reader: Reader) -> list[str]:
    """List the first audit rows that are changed, or do not follow the row before them."""
    prev, expected, breaks = auditline.FIRST_PREV, 1, list[str]()
    while page := reader.audit_lines(after=expected - 1, limit=_PAGE):
        for row in page:
            line = row.line.encode("utf-8")
            if wrong := _what_is_wrong(row.seq, line, prev, expected):
                breaks.append(f"row {row.seq} {wrong}")
                if len(breaks) == MAX_EXAMPLES:
                    return breaks
            prev, expected = auditline.digest(row.line), row.seq + 1
    return breaks


def _what_is_wrong(seq: int, line: bytes, prev: str, expected: int) -> str | None:
    if auditline.seq_of(line) != seq:
        return "was changed, as its CRC or its number does not fit"
    if auditline.prev_of(line) != prev:
        return "does not follow the row before it"
    if seq != expected and json.loads(line)["event"] != "restored":
        return f"comes where row {expected} is missing"
    return None
