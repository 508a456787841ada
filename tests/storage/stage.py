"""A store with a clock that stands still, and short words for what can happen to it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import event

from dtm.core.auditline import FIRST_PREV, digest, seq_of
from dtm.core.balance import Balance, LeastLoaded, Seat
from dtm.core.retry import RetryPolicy
from dtm.storage.batch import (
    Batch,
    Clear,
    Departure,
    Failed,
    Failure,
    NewTask,
    Registration,
    Released,
    Report,
    Reprocess,
    Submission,
    Success,
    Why,
)
from dtm.storage.migrate import prepare
from dtm.storage.reader import Reader
from dtm.storage.receipt import Assigned, Receipt, Refused, Registered, Resolved, Submitted, Verdict
from dtm.storage.store import Store
from dtm.storage.transaction import Policy
from dtm.storage.view import TaskRow

SECOND = 1_000_000
MINUTE = 60 * SECOND
NOON = 28_400_000 * MINUTE
"""When a stage's clock starts: some full minute."""

BACKOFF = 10 * SECOND
"""What a failed task waits for, times the number of its failures."""

OK = Success("3")
BOOM = Failure("ValueError", "boom", "Traceback…")
FAILED = Failed(BOOM)
HOPELESS = Failed(BOOM, may_retry=False)
UNBEGUN = Released()


class Stage:
    """A store that is open, and the moment that it is there."""

    def __init__(self, path: Path) -> None:
        prepare(path)
        self.path = path
        self.now = NOON
        self.store = open_store(path)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def reopen(self) -> None:
        """Close the store, and open it again as a new process would."""
        self.store.close()
        self.store = open_store(self.path)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += round(seconds * SECOND)

    def apply(self, batch: Batch) -> Receipt:
        """Let one transaction happen now."""
        return self.store.apply(batch, self.now)

    # What can happen, each in a transaction of its own.

    def submit(self, *tasks: NewTask) -> list[int]:
        """Submit tasks together, and give their ids."""
        answer = self.offer(*tasks)
        assert isinstance(answer, Submitted), answer
        return answer.ids

    def offer(self, *tasks: NewTask) -> Submitted | Refused:
        """Submit tasks together, and give the answer."""
        return self.apply(Batch(submissions=[Submission(tasks)])).submissions[0]

    def join(
        self,
        name: str = "w1",
        *,
        resume: Sequence[int] = (),
        kinds: tuple[str, ...] = ("add",),
        capacity: int = 10,
        instance: str | None = None,
    ) -> Registered:
        """Let a client come."""
        newcomer = Registration(name, "10.0.0.7:5000", kinds, capacity, tuple(resume), instance)
        answer = self.apply(Batch(registrations=[newcomer])).registrations[0]
        assert isinstance(answer, Registered), answer
        return answer

    def give(self, client_id: int, *kinds: str, free: int = 10) -> list[Assigned]:
        """Give a client as many tasks as it has room for."""
        return self.apply(Batch(seats=[seat(client_id, *kinds, free=free)])).assigned

    def start(self, *tasks: NewTask) -> list[Assigned]:
        """Submit tasks, and give them to a client that comes for their kinds."""
        tasks = tasks or (NewTask("add", "1"),)
        ids = self.submit(*tasks)
        assigned = self.give(self.join().client_id, *[task.kind for task in tasks], free=len(tasks))
        assert sorted(one.task_id for one in assigned) == ids, "something else was waiting"
        return assigned

    def report(self, assigned: Assigned, outcome: Success | Failed | Released) -> Verdict:
        """Let the client say how it went."""
        verdict = self.apply(Batch(reports=[report(assigned, outcome)])).reports[0]
        assert isinstance(verdict, Verdict), verdict
        return verdict

    def leave(self, client_id: int, why: Why) -> Receipt:
        """Let a client go."""
        return self.apply(Batch(departures=[Departure(client_id, why)]))

    def settle(self, command: Reprocess | Clear) -> Resolved:
        """Carry out an operator's command."""
        answer = self.apply(Batch(commands=[command])).commands[0]
        assert isinstance(answer, Resolved), answer
        return answer

    def bury(self, *tasks: NewTask) -> list[int]:
        """Let new tasks die in the order of their ids."""
        assigned = self.start(*tasks)
        self.apply(Batch(reports=[report(one, HOPELESS) for one in assigned]))
        return [one.task_id for one in assigned]

    # What can be seen.

    def task(self, task_id: int) -> TaskRow:
        """Look at one task."""
        with closing(Reader.open(self.path)) as reader:
            (task,) = reader.tasks_by_id([task_id])
        assert task is not None
        return task

    def states(self, *task_ids: int) -> list[str | None]:
        """Say where tasks stand; None for those that are gone."""
        with closing(Reader.open(self.path)) as reader:
            return [None if task is None else task.state for task in reader.tasks_by_id(task_ids)]

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Look into the file."""
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(query, parameters).fetchall()

    def audit(self) -> list[dict[str, Any]]:
        """Read the lines of the dead-letter log."""
        return [json.loads(line) for (line,) in self.sql("SELECT line FROM audit ORDER BY seq")]


def open_store(path: Path, balance: Balance | None = None, *, numbers_above: int = 0) -> Store:
    """Open a store with the rules of the stage."""
    policy = Policy(max_retries=3, retry_delay=_retry_delay)
    return Store.open(path, policy=policy, balance=balance or LeastLoaded(), numbers_above=numbers_above)


def _retry_delay(failures: int, policy: RetryPolicy) -> int:
    return BACKOFF * failures if policy.delay is None else round(policy.delay * SECOND) * failures


def seat(client_id: int, *kinds: str, free: int = 10) -> Seat:
    """A client with room, for the kind `add` if none is named."""
    return Seat(client_id, frozenset(kinds or ("add",)), held=0, free=free)


def report(assigned: Assigned, outcome: Success | Failed | Released, *, client_id: int | None = None) -> Report:
    """A client's word on what it was given."""
    return Report(
        assigned.client_id if client_id is None else client_id, assigned.task_id, assigned.assignment_id, outcome
    )


def meanwhile(reader: Reader, happens: Callable[[], object]) -> None:
    """Let something happen after each question that `reader` asks."""

    @event.listens_for(reader._connection.engine, "after_cursor_execute")
    def _after(*heard: Any) -> None:
        _, _, statement, *_ = heard
        if statement != "BEGIN":  # only the first question begins a moment
            happens()


# What must hold after each commit. Each query lists what is wrong.
_WRONG = {
    "the file is damaged": "SELECT * FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
    "a row refers to nothing": "SELECT * FROM pragma_foreign_key_check",
    "the books differ from the tasks": """
        SELECT kind, state, sum(n) FROM (
            SELECT kind, state, count(*) AS n FROM tasks GROUP BY kind, state
            UNION ALL SELECT kind, state, -tasks FROM counts)
        GROUP BY kind, state HAVING sum(n) <> 0""",
    "the books are below nothing": "SELECT * FROM counts WHERE tasks < 0",
    "an assigned task has no live assignment": """
        SELECT id FROM tasks WHERE state = 'assigned' AND NOT EXISTS (
            SELECT * FROM assignments AS a
            WHERE a.id = tasks.assignment_id AND a.task_id = tasks.id AND a.finished_at IS NULL)""",
    "an assignment is live and nobody's current one": """
        SELECT id FROM assignments AS a WHERE finished_at IS NULL AND NOT EXISTS (
            SELECT * FROM tasks WHERE tasks.assignment_id = a.id AND tasks.id = a.task_id)""",
    "an assignment is live and its client has left": """
        SELECT a.id FROM assignments AS a JOIN clients AS c ON c.id = a.client_id
        WHERE a.finished_at IS NULL AND c.left_at IS NOT NULL""",
    "a task was completed more than once": """
        SELECT task_id FROM assignments WHERE outcome = 'completed' GROUP BY task_id HAVING count(*) > 1""",
    "a completed task has no completed assignment": """
        SELECT id FROM tasks WHERE (state = 'completed') <> EXISTS (
            SELECT * FROM assignments AS a WHERE a.task_id = tasks.id AND a.outcome = 'completed')""",
    "a dead task has no open letter, or an open letter no dead task": """
        SELECT id FROM tasks WHERE (state = 'dead') <> EXISTS (
            SELECT * FROM dead_letters AS d WHERE d.task_id = tasks.id AND d.resolved_at IS NULL)
        UNION ALL SELECT task_id FROM dead_letters WHERE resolved_at IS NULL
            AND task_id NOT IN (SELECT id FROM tasks WHERE state = 'dead')""",
    "an end has no instant, or an instant no end": """
        SELECT id FROM tasks WHERE (finished_at IS NOT NULL)
            <> (state IN ('completed', 'dead', 'cancelled', 'expired'))""",
    "an attempt has a deadline and is over": """
        SELECT id FROM tasks WHERE deadline_at IS NOT NULL AND state <> 'assigned'""",
    "a deadline is not what the timeout says": """
        SELECT t.id FROM tasks AS t JOIN assignments AS a ON a.id = t.assignment_id
        WHERE t.deadline_at IS NOT a.assigned_at + t.timeout""",
    "a task goes on although somebody wanted it to stop": """
        SELECT id FROM tasks WHERE cancel_requested_at IS NOT NULL AND state IN ('scheduled', 'pending', 'dead')""",
    "an attempt began although the task had expired": """
        SELECT a.id FROM assignments AS a JOIN tasks AS t ON t.id = a.task_id WHERE a.assigned_at >= t.expires_at""",
    "a task was tried more often than it may be": """
        SELECT id FROM tasks WHERE retry_count > max_retries
            OR (retry_count = max_retries AND state NOT IN ('dead'))""",
    "the audit rows do not tell of the letters": """
        SELECT * FROM (
            SELECT (SELECT count(*) FROM dead_letters) AS letters,
                   (SELECT count(*) FROM dead_letters WHERE resolution = 'reprocessed') AS reprocessed,
                   (SELECT count(*) FROM dead_letters WHERE resolution = 'cleared') AS cleared,
                   (SELECT count(*) FROM audit WHERE event = 'dead') AS dead_told,
                   (SELECT count(*) FROM audit WHERE event = 'reprocessed') AS reprocessed_told,
                   (SELECT count(*) FROM audit WHERE event = 'cleared') AS cleared_told)
        WHERE letters <> dead_told OR reprocessed <> reprocessed_told OR cleared <> cleared_told""",
}


def what_is_wrong(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Check everything that must hold after each commit, and give what does not."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        found = {claim: connection.execute(query).fetchall() for claim, query in _WRONG.items()}
        lines = connection.execute("SELECT seq, line FROM audit ORDER BY seq").fetchall()
    found["the audit chain is broken"] = _breaks(lines)
    return {claim: rows for claim, rows in found.items() if rows}


def _breaks(lines: Sequence[tuple[int, str]]) -> list[tuple[Any, ...]]:
    prev, expected, breaks = FIRST_PREV, 1, []
    for seq, line in lines:
        fields = json.loads(line)
        # Only where a backup was put in place do the numbers leap: over all that the lost time may have known.
        leaps = fields["event"] == "restored" and seq > expected
        if (seq != expected and not leaps) or seq_of(line.encode()) != seq or fields["prev"] != prev:
            breaks.append((expected, seq, line))
        prev, expected = digest(line), seq + 1
    return breaks
