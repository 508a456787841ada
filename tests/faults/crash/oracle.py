"""What must be true after a crash, however it came: the promises of a ledger, held against the files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from dtm.core import auditline
from dtm.storage.auditfiles import rotated
from dtm.storage.batch import Failed, Success
from tests.faults.crash.ledger import NONE, Ledger, Note, Opened, Prepared, State
from tests.faults.crash.life import COPY, DATABASE, LOG, state_of
from tests.faults.oracle import NEVER
from tests.storage.stage import what_is_wrong

_SUBMITTED = """
    SELECT (SELECT coalesce(sum(times), 0) FROM activity WHERE event = 'submitted') AS booked,
           (SELECT coalesce(sum(seq), 0) FROM sqlite_sequence WHERE name = 'tasks') AS numbered"""


class Violation(AssertionError):
    """A promise that was not kept."""


def check_restart(before: Ledger, notes: Sequence[Note]) -> None:
    """Check what a restart found, `notes` being what it said, against what had been promised before the crash."""
    for note in notes:
        match note:
            case Prepared(how=how):
                _require(not (before.exists and how == "created"), "the store was there, and is gone")
            case Opened(state=state):
                _require_state(before.states, state)
                return
    raise Violation("the server did not come up again")


def _require_state(allowed: Sequence[State], found: State) -> None:
    if not allowed:
        rows = {table for table, digest in found.items() if digest != "nothing"}
        _require(rows <= {"meta", "sqlite_sequence"}, f"nobody asked for anything, and there are rows in {rows}")
    elif found not in allowed:
        differ = [sorted(table for table in found if found[table] != state[table]) for state in allowed]
        raise Violation(
            f"the database is in none of the {len(allowed)} states that it may be in; what differs: {differ}"
        )


def check_log_after_crash(promised: int, log: bytes, rows: Sequence[str]) -> None:
    """Check the log as the crash left it: what was promised is there, and nothing that the database does not have."""
    lines = [line for line in log.split(b"\n") if auditline.seq_of(line) is not None]
    for line in lines:
        seq = auditline.seq_of(line)
        assert seq is not None
        _require(seq <= len(rows), f"the log is ahead of the database: it has line {seq}, and there are {len(rows)}")
        _require(line.decode() == rows[seq - 1], f"line {seq} of the log is not that of the database")
    whole = "".join(f"{line}\n" for line in rows[:promised]).encode()
    _require(len(rows) >= promised and log.startswith(whole), f"the log lost lines of the {promised} it surely had")


def whole_log(files: Mapping[str, bytes | bytearray]) -> bytes:
    """Put the log together from the files of its folder: those that were rotated, and the one that grows."""
    names = sorted(name for name in files if name.startswith(f"{LOG}."))
    return b"".join([*(files[name] for name in names), files.get(LOG, b"")])


def check_files(folder: Path, ledger: Ledger) -> None:
    """Check the files of a server that has ended."""
    wrong = what_is_wrong(folder / DATABASE)
    _require(not wrong, f"the database contradicts itself: {wrong}")
    with closing(sqlite3.connect(f"{(folder / DATABASE).as_uri()}?mode=ro", uri=True)) as connection:
        _check_database(connection, ledger)
        lines = [line for (line,) in connection.execute("SELECT line FROM audit ORDER BY seq")]
    log = whole_log({path.name: path.read_bytes() for path in (*rotated(folder / LOG), folder / LOG)})
    _require(log == "".join(f"{line}\n" for line in lines).encode(), "the log does not equal the audit rows")


def check_copy(folder: Path, allowed: Sequence[State]) -> None:
    """Check the backup as a crash left it: the one that was asked for last, or, until that is there, the one before."""
    copy = folder / COPY
    found = NONE
    if copy.exists():
        with closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as connection:
            found = state_of(connection)
            _require(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], "the backup is damaged")
    _require(found in allowed, "the backup is none of those that were asked for")


def audit_rows(folder: Path) -> list[str]:
    """Read the audit rows' lines."""
    with closing(sqlite3.connect(f"{(folder / DATABASE).as_uri()}?mode=ro", uri=True)) as connection:
        return [line for (line,) in connection.execute("SELECT line FROM audit ORDER BY seq")]


def _check_database(connection: sqlite3.Connection, ledger: Ledger) -> None:
    for claim, query in NEVER.items():
        _require(not (rows := connection.execute(query).fetchall()), f"{claim}: {rows}")
    ((booked, numbered),) = connection.execute(_SUBMITTED)
    _require(booked == numbered, f"{numbered} tasks were numbered, and the books know of {booked}")
    tasks = connection.execute("SELECT id, kind, payload, key, state, result FROM tasks").fetchall()
    _check_only_intents(tasks, ledger)
    _check_acknowledged(
        {id: (payload, state, result) for id, _, payload, _, state, result in tasks}, connection, ledger
    )


def _check_only_intents(tasks: Iterable[tuple[Any, ...]], ledger: Ledger) -> None:
    seen: set[str] = set()
    for id, kind, payload, key, *_ in tasks:
        intent = ledger.intents.get(payload)
        _require(intent is not None and (intent.kind, intent.key) == (kind, key), f"nobody submitted task {id}")
        _require(payload not in seen, f"task {id} was submitted once and is there twice")
        seen.add(payload)


def _check_acknowledged(
    tasks: dict[int, tuple[str, str, str | None]], connection: sqlite3.Connection, ledger: Ledger
) -> None:
    cleared = {id for (id,) in connection.execute("SELECT task_id FROM dead_letters WHERE resolution = 'cleared'")}
    gone = cleared | ledger.pruned
    for payload, id in ledger.ids.items():
        _require(id in gone or (id in tasks and tasks[id][0] == payload), f"task {id} was acknowledged and is lost")
    outcomes = dict(connection.execute("SELECT id, outcome FROM assignments").fetchall())
    for assignment_id, report in ledger.accepted.items():
        outcome, task = report.outcome, tasks.get(report.task_id)
        if task is None:
            _require(report.task_id in gone, f"task {report.task_id} had an accepted report and is lost")
        elif isinstance(outcome, Success):
            won = outcomes.get(assignment_id) == "completed" and task[1:] == ("completed", outcome.value)
            _require(won, f"assignment {assignment_id} was accepted as the completion of its task, and is not that")
        elif isinstance(outcome, Failed):
            _require(
                outcomes.get(assignment_id) in ("failed", "cancelled"), f"the accepted failure {assignment_id} is lost"
            )


def _require(holds: bool, complaint: str) -> None:  # noqa: FBT001
    if not holds:
        raise Violation(complaint)
