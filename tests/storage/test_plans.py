"""How SQLite finds the rows: by an index, however many tasks there are.

Every statement of a day's work is noted as it really runs, and SQLite asked for its plan.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, event

from dtm.storage.batch import (
    Batch,
    Cancellation,
    Change,
    Clear,
    Failed,
    NewTask,
    Progress,
    Prune,
    Released,
    Reprocess,
    Selection,
    Submission,
    Success,
    TaskSelection,
    Why,
)
from dtm.storage.cancel import selected
from dtm.storage.reader import Reader
from dtm.storage.retention import Retention, look
from dtm.storage.statistics import statistics
from tests.storage.stage import BACKOFF, FAILED, HOPELESS, OK, SECOND, UNBEGUN, Stage, report, seat

Said = dict[str, Any]
"""Each statement with the parameters of its first run."""

RULE = Retention(0, 0, 0)

LARGE = ("tasks", "assignments", "clients", "audit", "activity")
"""Tables that grow with the work; `dead_letters` too, but only what an operator asks for goes through it."""


def listen(connection: Connection, said: Said) -> None:
    """Note from now on what is said on a connection."""

    @event.listens_for(connection.engine, "before_cursor_execute")
    def _note(*heard: Any) -> None:
        _, _, statement, parameters, _, is_many = heard
        said.setdefault(statement, parameters[0] if is_many else parameters)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said, Said]:
    """A day's work: the store, what its writer said, and what its reader said."""
    stage = Stage(tmp_path_factory.mktemp("plans") / "tasks.db")
    written: Said = {}
    listen(stage.store._connection, written)
    _work(stage)
    written |= _prepared(stage)
    read: Said = {}
    with closing(Reader.open(stage.path)) as reader:
        listen(reader._connection, read)
        _look(reader, stage.now)
    stage.close()
    return stage.path, written, read


def _prepared(stage: Stage) -> Said:
    """Give what went past SQLAlchemy's events; SQLite plans without looking at the values."""
    compiled = stage.store._prepared._compiled.values()
    return {one.text: (None,) * len(one.names) for one in compiled}


def _work(stage: Stage) -> None:
    task = NewTask("add", "1", "k")
    kinds = ("add", "mul", "sub")
    client = stage.join(kinds=kinds).client_id
    assigned = stage.apply(
        Batch(
            submissions=[Submission((task, task, *[NewTask(kind, "1") for kind in kinds * 3]))],
            seats=[seat(client, *kinds)],
            changes=[Change(client, kinds, 5)],
            heartbeats={client: stage.now},
            log_position=0,
        )
    ).assigned
    stage.submit(task, NewTask("add", "1", delay=SECOND))
    outcomes: tuple[Success | Failed | Released, ...] = (OK, FAILED, HOPELESS, UNBEGUN, OK, HOPELESS)
    reports = [report(one, outcome) for one, outcome in zip(assigned, outcomes, strict=False)]
    stage.apply(Batch(reports=[*reports, *reports]))
    stage.wait(BACKOFF / SECOND)
    stage.apply(Batch(seats=[seat(client)]))
    back = stage.join(resume=[assigned[-1].assignment_id, 99])
    stage.leave(back.client_id, Why.SILENT)
    stage.settle(Reprocess(Selection(everything=True), 1))
    stage.settle(Clear(Selection(ids=(1, 2, 3), kind="add", error="x", died_before=0), 1))
    _work_on_terms(stage)
    stage.bury(NewTask("div", "1"))
    stage.settle(Clear(Selection(kind="div"), 1))
    stage.apply(Batch(prunings=[Prune((1, 2, 3), RULE.cutoffs(stage.now))]))


def _work_on_terms(stage: Stage) -> None:
    terms = NewTask("terms", "1", timeout=SECOND, unique="u", retry="{}")
    brief = NewTask("add", "1", expires=SECOND)
    client = stage.join(kinds=("terms",)).client_id
    (running,) = stage.apply(Batch(submissions=[Submission((terms,))], seats=[seat(client, "terms")])).assigned
    stage.submit(terms, brief, NewTask("add", "1"))
    stage.apply(
        Batch(
            progress={(running.assignment_id, running.task_id): Progress(0.5)},
            cancellations=[Cancellation((running.task_id,))],
        )
    )
    stage.join(resume=[running.assignment_id])
    stage.wait(1)
    stage.apply(Batch())


def _look(reader: Reader, now: int) -> None:
    look(reader, RULE.cutoffs(now), after=0)
    statistics(reader, now)
    reader.tasks_by_id([1, 2])
    reader.audit_lines(after=0, limit=10)
    reader.present_clients()


def plan(path: Path, statement: str, parameters: Any) -> list[str]:
    """Ask SQLite how it would run a statement, one step a line."""
    with closing(sqlite3.connect(path)) as connection:
        steps = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
    return [step.replace("COVERING ", "") for _, _, _, step in steps]


def plans(path: Path, said: Said, *words: str) -> list[str]:
    """Give the plans of those statements that hold all these words, as one text each."""
    found = [
        "\n".join(plan(path, statement, parameters))
        for statement, parameters in said.items()
        if all(word in statement for word in words)
    ]
    assert found, f"no statement with {words}"
    return found


def _is_work(statement: str) -> bool:
    return statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"))


def test_the_day_saw_all_kinds_of_statements(day: tuple[Path, Said, Said]) -> None:
    """Otherwise the tests below would look at nothing."""
    _, written, read = day
    updates = [statement for statement in written if statement.startswith("UPDATE tasks")]

    assert len(updates) >= 7
    assert len([statement for statement in written if _is_work(statement)]) > 30
    assert len(read) >= 10


@pytest.mark.parametrize("table", LARGE)
def test_no_transaction_goes_through_a_whole_table(day: tuple[Path, Said, Said], table: str) -> None:
    """Its cost does not grow with the backlog, the history or the number of clients that ever came."""
    path, written, _ = day
    through = [
        statement
        for statement, parameters in written.items()
        if _is_work(statement) and any(_goes_through(step, table) for step in plan(path, statement, parameters))
    ]

    assert through == []


@pytest.mark.parametrize("table", LARGE)
def test_no_statistic_goes_through_a_whole_table(day: tuple[Path, Said, Said], table: str) -> None:
    """A dashboard that looks every second costs as little on a full store as on an empty one."""
    path, _, read = day
    through = [
        statement
        for statement, parameters in read.items()
        if _is_work(statement) and any(_goes_through(step, table) for step in plan(path, statement, parameters))
    ]

    assert through == []


def _goes_through(step: str, table: str) -> bool:
    return step == f"SCAN {table}" or step.startswith(f"SCAN {table} ")


USED: dict[str, tuple[tuple[str, ...], str]] = {
    "what waits": (("ORDER BY tasks.priority DESC",), "SEARCH tasks USING INDEX ix_tasks_claim (kind=?)"),
    "what falls due": (("ORDER BY tasks.run_at",), "SEARCH tasks USING INDEX ix_tasks_due (run_at<?)"),
    "what falls due next": (("SELECT min(tasks.run_at)",), "SEARCH tasks USING INDEX ix_tasks_due"),
    "what is overdue": (("ORDER BY tasks.deadline_at",), "SEARCH tasks USING INDEX ix_tasks_deadline (deadline_at"),
    "what is overdue next": (("SELECT min(tasks.deadline_at)",), "SEARCH tasks USING INDEX ix_tasks_deadline"),
    "what expires": (("ORDER BY tasks.expires_at",), "SEARCH tasks USING INDEX ix_tasks_expiry (expires_at"),
    "what expires next": (("SELECT min(tasks.expires_at)",), "SEARCH tasks USING INDEX ix_tasks_expiry"),
    "known unique keys": (("SELECT tasks.kind, tasks.unique_key",), "SEARCH tasks USING INDEX uq_tasks_unique"),
    "what a client holds": (
        ("assignments.finished_at IS NULL", "assignments.client_id = ?"),
        "SEARCH assignments USING INDEX ix_assignments_live (client_id=?)",
    ),
    "known keys": (('SELECT tasks."key"',), "SEARCH tasks USING INDEX uq_tasks_key (key=?)"),
    "attempts of cleared tasks": (
        ("DELETE FROM assignments WHERE assignments.task_id",),
        "SEARCH assignments USING INDEX ix_assignments_task (task_id=?)",
    ),
    "attempts of tasks to be taken out": (
        ("SELECT assignments.task_id, assignments.id",),
        "SEARCH assignments USING INDEX ix_assignments_task (task_id=?)",
    ),
    "attempts that are taken out": (
        ("DELETE FROM assignments WHERE assignments.id",),
        "SEARCH assignments USING INTEGER PRIMARY KEY (rowid=?)",
    ),
    "tasks that are taken out": (("DELETE FROM tasks",), "SEARCH tasks USING INTEGER PRIMARY KEY (rowid=?)"),
    "tasks that change": (("UPDATE tasks",), "SEARCH tasks USING INTEGER PRIMARY KEY (rowid=?)"),
    "attempts that end": (("UPDATE assignments",), "SEARCH assignments USING INTEGER PRIMARY KEY (rowid=?)"),
}


@pytest.mark.parametrize(("words", "step"), USED.values(), ids=USED.keys())
def test_an_index_is_there_for(day: tuple[Path, Said, Said], words: tuple[str, ...], step: str) -> None:
    """Each statement of the kind uses it, and sorts nothing but what its parts have bounded already."""
    path, written, _ = day
    found = plans(path, written, *words)

    assert all(step in text for text in found)
    assert all(before.startswith("SCAN head_") for before in sorted_steps(found))


def sorted_steps(texts: list[str]) -> set[str]:
    """Say what plans sort, each by the step before."""
    steps = [step for text in texts for step in ("", *text.splitlines())]
    return {before for before, step in pairwise(steps) if "TEMP B-TREE" in step}


def test_the_oldest_waiting_task_is_found_by_the_claims_index(day: tuple[Path, Said, Said]) -> None:
    """Step by step through the priorities, not through the tasks."""
    path, _, read = day
    (text,) = plans(path, read, "WITH RECURSIVE levels")

    assert text.count("SEARCH tasks USING INDEX ix_tasks_claim (kind=?") == 3


PARTS = {"scheduled": "ix_tasks_due", "pending": "ix_tasks_claim", "assigned": "ix_assignments_live"}


@pytest.mark.parametrize("state", PARTS)
@pytest.mark.parametrize("through", [None, 9])
@pytest.mark.parametrize("selection", [TaskSelection(everything=True), TaskSelection(kind="add", created_before=5)])
def test_what_an_operator_cancels_is_sought_among_what_has_not_ended(
    day: tuple[Path, Said, Said], selection: TaskSelection, through: int | None, state: str
) -> None:
    """However many tasks have, and also when a command is bound to those that were counted."""
    statement = selected(replace(selection, through=through), state).limit(5)
    (first, *_) = plan(day[0], str(statement.compile(compile_kwargs={"literal_binds": True})), ())

    assert PARTS[state] in first


def test_no_statement_asks_for_a_state_by_a_parameter(day: tuple[Path, Said, Said]) -> None:
    """SQLite would prepare it anew each time, to see whether a partial index fits."""
    _, written, read = day

    assert [statement for statement in (*written, *read) if "tasks.state = ?" in statement] == []
