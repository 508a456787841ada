"""What must hold whatever has failed: the driver's ledger and the server's books tell one story.

acknowledged ⊆ database ⊆ intents, and the lists of impossibilities below. Reads the files beside whoever writes them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from dtm.core import auditline
from tests.faults.ledger import RESULTS, Ledger

Row = tuple[Any, ...]

# What is wrong: the rows that prove it. Each holds at every moment at which no transaction is open.
NEVER = {
    "a key has two tasks": "SELECT key, count(*) FROM tasks WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1",
    "a task has succeeded twice": """
        SELECT task_id FROM assignments WHERE outcome = 'completed' GROUP BY task_id HAVING count(*) > 1""",
    "state and attempts disagree about a success": """
        SELECT id, state FROM tasks WHERE (state = 'completed') <>
        EXISTS (SELECT 1 FROM assignments WHERE task_id = tasks.id AND outcome = 'completed')""",
    "a task was given out again after its end": """
        SELECT later.id, later.task_id FROM assignments AS later JOIN assignments AS winner USING (task_id)
        WHERE winner.outcome = 'completed' AND later.id > winner.id""",
    "a task that was cancelled or has expired was given out after that": """
        SELECT task_id, assigned_at, tasks.finished_at FROM tasks JOIN assignments ON task_id = tasks.id
        WHERE state IN ('cancelled', 'expired') AND assigned_at > tasks.finished_at""",
    "an attempt began although its task had expired": """
        SELECT task_id, assigned_at, expires_at FROM tasks JOIN assignments ON task_id = tasks.id
        WHERE assigned_at >= expires_at""",
    "a task goes on although it was to stop": """
        SELECT id, state FROM tasks
        WHERE cancel_requested_at IS NOT NULL AND state NOT IN ('assigned', 'completed', 'cancelled')""",
    "an attempt that is over has a deadline": """
        SELECT id, state FROM tasks WHERE deadline_at IS NOT NULL AND state <> 'assigned'""",
    "two tasks that have not ended are one by their unique key": """
        SELECT kind, unique_key, count(*) FROM tasks WHERE unique_key IS NOT NULL
        AND state IN ('scheduled', 'pending', 'assigned') GROUP BY kind, unique_key HAVING count(*) > 1""",
    "a task has more failed attempts than it may have": """
        SELECT id, max_retries FROM tasks WHERE
        (SELECT count(*) FROM assignments WHERE task_id = tasks.id AND outcome IN ('failed', 'died', 'timed out'))
        > max_retries *
        (1 + (SELECT count(*) FROM dead_letters WHERE task_id = tasks.id AND resolution = 'reprocessed'))""",
    "retry_count is not the number of failed attempts since the task was last reprocessed": """
        SELECT id, retry_count FROM tasks WHERE retry_count <>
        (SELECT count(*) FROM assignments WHERE task_id = tasks.id
        AND outcome IN ('failed', 'died', 'timed out') AND finished_at >
        (SELECT coalesce(max(resolved_at), 0) FROM dead_letters WHERE task_id = tasks.id))""",
    "a task's current attempt is over, or another's": """
        SELECT tasks.id, assignment_id FROM tasks LEFT JOIN assignments
        ON assignments.id = assignment_id AND task_id = tasks.id AND assignments.finished_at IS NULL
        WHERE state = 'assigned' AND task_id IS NULL""",
    "an attempt runs that is not its task's current one": """
        SELECT assignments.id, task_id FROM assignments LEFT JOIN tasks
        ON tasks.id = task_id AND assignment_id = assignments.id AND state = 'assigned'
        WHERE assignments.finished_at IS NULL AND tasks.id IS NULL""",
    "an attempt runs on a client that is gone": """
        SELECT assignments.id, client_id FROM assignments JOIN clients ON clients.id = client_id
        WHERE finished_at IS NULL AND left_at IS NOT NULL""",
    "dead tasks and open dead letters differ": """
        SELECT tasks.id, state FROM tasks WHERE (state = 'dead') <>
        EXISTS (SELECT 1 FROM dead_letters WHERE task_id = tasks.id AND resolved_at IS NULL)""",
    "a dead letter and its line in the audit differ in number": """
        SELECT letters, lines FROM (SELECT count(*) AS letters FROM dead_letters),
        (SELECT count(*) AS lines FROM audit WHERE event = 'dead') WHERE letters <> lines""",
    "the books have another number of tasks": """
        SELECT kind, state, sum(n) FROM (SELECT kind, state, count(*) AS n FROM tasks GROUP BY kind, state
        UNION ALL SELECT kind, state, -tasks FROM counts) GROUP BY kind, state HAVING sum(n) <> 0""",
    "the books have another number of completions": """
        SELECT done, booked FROM (SELECT (SELECT count(*) FROM assignments WHERE outcome = 'completed')
        + (SELECT coalesce(sum(times), 0) FROM activity WHERE event = 'pruned') AS done),
        (SELECT coalesce(sum(times), 0) AS booked FROM activity WHERE event = 'completed') WHERE done <> booked""",
    "the books have another number of submissions": """
        SELECT here, booked FROM (SELECT (SELECT count(*) FROM tasks)
        + (SELECT count(*) FROM dead_letters WHERE resolution = 'cleared')
        + (SELECT coalesce(sum(times), 0) FROM activity WHERE event = 'pruned') AS here),
        (SELECT coalesce(sum(times), 0) AS booked FROM activity WHERE event = 'submitted') WHERE here <> booked""",
}

# Once everybody who may still be alive has been given the time to show it, and all work is done.
NEVER_AT_REST = {
    "a task was forgotten": """
        SELECT id, state FROM tasks WHERE state NOT IN ('completed', 'dead', 'cancelled', 'expired')""",
    "an attempt is still open": "SELECT id, task_id FROM assignments WHERE finished_at IS NULL",
}


Complaints = Iterator[tuple[str, list[Any]]]
"""What is wrong, and whatever proves it."""


def check_running(db: Path, log: Path, ledger: Ledger) -> None:
    """Check what must hold at every moment, beside a server at work.

    Raises:
        AssertionError: naming what is wrong, and what proves it.
    """
    _require_none(dict(complaints(db, log, ledger)))


def check_at_rest(db: Path, log: Path, ledger: Ledger) -> None:
    """Check that, and that every task has ended, and that the log is the audit, byte for byte.

    Raises:
        AssertionError: naming what is wrong, and what proves it.
    """
    _require_none(dict(complaints(db, log, ledger)) | dict(complaints_at_rest(db, log)))


def _require_none(found: dict[str, list[Any]]) -> None:
    assert not found, "\n".join(f"{claim}: {proof}" for claim, proof in found.items())


def complaints(db: Path, log: Path, ledger: Ledger) -> Complaints:
    """Give what must hold at every moment and does not."""
    # What is on disk after these were copied may be more, never less.
    acknowledged, accepted, ended = dict(ledger.acknowledged), dict(ledger.accepted), set(ledger.ended)
    logged = _read(log)
    with closing(_open(db)) as connection:
        yield from _rows(connection, NEVER)
        yield from _tasks(connection, ledger, acknowledged)
        yield from _results(connection, ledger, accepted)
        yield from _ends(connection, ended)
        if not _audit(connection).startswith(logged):
            yield "the log is not the beginning of the audit", logged.splitlines()[-1:]


def complaints_at_rest(db: Path, log: Path) -> Complaints:
    """Give what must hold once all work is done and does not."""
    with closing(_open(db)) as connection:
        yield from _rows(connection, NEVER_AT_REST)
        if _audit(connection) != _read(log):
            yield "the log is not the audit", _read(log).splitlines()[-1:]
        yield from _chain(_read(log).decode("ascii").splitlines())
        damage = connection.execute("PRAGMA integrity_check").fetchall()
        if damage != [("ok",)]:
            yield "the database is damaged", damage


def _read(log: Path) -> bytes:
    return log.read_bytes() if log.exists() else b""


def _open(db: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True, isolation_level=None)
    connection.execute("BEGIN")  # one moment for all statements
    return connection


def _rows(connection: sqlite3.Connection, statements: dict[str, str]) -> Complaints:
    for claim, statement in statements.items():
        rows = connection.execute(statement).fetchmany(5)
        if rows:
            yield claim, rows


def _tasks(connection: sqlite3.Connection, ledger: Ledger, acknowledged: dict[str, int]) -> Complaints:
    cleared = {id for (id,) in connection.execute("SELECT task_id FROM dead_letters WHERE resolution = 'cleared'")}
    stored = {row[0]: row[1:] for row in connection.execute("SELECT key, id, kind, payload, max_retries FROM tasks")}
    yield from _some(
        "acknowledged, and not in the database",
        (key for key, id in acknowledged.items() if id not in cleared and stored.get(key, (None,))[0] != id),
    )
    yield from _some("in the database, and never submitted", stored.keys() - ledger.intents.keys())
    yield from _some("refused, and in the database", stored.keys() & ledger.refused)
    both = stored.keys() & ledger.intents.keys()
    yield from _some(
        "not what was submitted", (key for key in both if not _is_as_intended(stored[key], ledger.intents[key]))
    )


def _is_as_intended(row: Row, task: dict[str, Any]) -> bool:
    _, kind, payload, max_retries = row
    return (kind, json.loads(payload), max_retries) == (task["kind"], task["payload"], task.get("max_retries", 3))


def _results(connection: sqlite3.Connection, ledger: Ledger, accepted: dict[int, str]) -> Complaints:
    winners = """SELECT assignments.id, tasks.id, kind, payload, result FROM tasks JOIN assignments
        ON task_id = tasks.id AND outcome = 'completed' WHERE state = 'completed'"""
    won = {row[0]: row[1:] for row in connection.execute(winners)}
    yield from _some(
        "a result that its winner has not sent", (id for id, row in won.items() if not _is_as_sent(id, row, ledger))
    )
    outcomes = dict(connection.execute("SELECT id, outcome FROM assignments"))
    counted = {True: "completed", False: "failed"}
    yield from _some(
        "accepted, and not counted",
        # A cleared task has taken its attempts with it; it was never completed.
        (id for id in accepted if outcomes.get(id, "failed") != counted[ledger.sent[id].ok]),
    )


def _is_as_sent(assignment: int, row: Row, ledger: Ledger) -> bool:
    task_id, kind, payload, result = row
    sent = ledger.sent.get(assignment)
    if sent is None:
        return kind in RESULTS and bool(json.loads(result) == RESULTS[kind](json.loads(payload)))
    return (sent.task_id, sent.ok, sent.value) == (task_id, True, json.loads(result))


def _ends(connection: sqlite3.Connection, ended: set[tuple[int, str]]) -> Complaints:
    true = set(connection.execute("SELECT id, state FROM tasks WHERE state IN ('completed', 'cancelled', 'expired')"))
    true |= set(connection.execute("SELECT task_id, 'dead' FROM dead_letters"))
    yield from _some("an end was told of that is not in the database", ended - true)


def _chain(lines: list[str]) -> Complaints:
    previous = auditline.FIRST_PREV
    for seq, line in enumerate(lines, start=1):
        if auditline.seq_of(line.encode()) != seq or json.loads(line)["prev"] != previous:
            yield f"line {seq} of the log is damaged", [line]
        previous = auditline.digest(line)


def _some(claim: str, found: Iterable[Any]) -> Complaints:
    several = list(islice(found, 5))
    if several:
        yield claim, several


def _audit(connection: sqlite3.Connection) -> bytes:
    lines = connection.execute("SELECT line FROM audit ORDER BY seq")
    return "".join(f"{line}\n" for (line,) in lines).encode("ascii")
