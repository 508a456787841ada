"""One transaction a batch: what a restart keeps, what one bad item costs, and what happens when it cannot be."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dtm.core.balance import Balance, LeastLoaded, Random, RoundRobin
from dtm.storage.batch import (
    Batch,
    Change,
    Clear,
    Departure,
    Failed,
    Failure,
    NewTask,
    Registration,
    Report,
    Reprocess,
    Selection,
    Submission,
    Success,
    Why,
)
from dtm.storage.claim import MAX_ASSIGNED
from dtm.storage.errors import StoreBusy, StoreFailed
from dtm.storage.receipt import Cause, Refused, Registered, Resolved, Submitted, Verdict
from dtm.storage.sql import LONG
from tests.storage.stage import BACKOFF, FAILED, HOPELESS, NOON, OK, SECOND, Stage, open_store, report, seat

ADD = NewTask("add", "1")
EVERYTHING = Selection(everything=True)

TABLES = ("tasks", "assignments", "clients", "dead_letters", "audit", "counts", "activity", "sqlite_sequence")


def everything_in(stage: Stage) -> dict[str, list[tuple[Any, ...]]]:
    """Read all tables, but for the count of openings."""
    return {table: stage.sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


# --- restarts --------------------------------------------------------------------------------------------------


def test_each_opening_is_counted_on_disk(stage: Stage) -> None:
    """It is the first thing that is committed: what a crash left unsynced is synced by it."""
    epochs = [stage.sql("SELECT epoch FROM meta")]
    for _ in range(3):
        stage.reopen()
        epochs.append(stage.sql("SELECT epoch FROM meta"))

    assert epochs == [[(1,)], [(2,)], [(3,)], [(4,)]]


def test_a_restart_keeps_everything(stage: Stage) -> None:
    """Tasks in every state, attempts, clients, letters, lines and books."""
    stage.bury(ADD, NewTask("mul", "1"))
    stage.settle(Clear(Selection(ids=(2,)), 9))
    done, failed, _ = stage.start(NewTask("add", '"é\u2028"', "k"), ADD, ADD)
    stage.apply(Batch(reports=[report(done, OK), report(failed, FAILED)], log_position=2))
    stage.submit(ADD, NewTask("add", "1", delay=SECOND))
    before = everything_in(stage)
    stage.reopen()

    assert everything_in(stage) == before
    assert stage.states(*range(1, 8)) == ["dead", None, "completed", "scheduled", "assigned", "pending", "scheduled"]
    assert stage.sql("SELECT log_position FROM meta") == [(2,)]


def test_a_restart_knows_what_falls_due_next(stage: Stage) -> None:
    """Whether it was submitted for later or waits for its next try."""
    (assigned,) = stage.start(ADD)
    stage.submit(NewTask("add", "1", delay=BACKOFF + 1))
    stage.report(assigned, FAILED)
    stage.reopen()

    assert stage.store.next_due_at == NOON + BACKOFF


def test_ids_are_never_given_again(stage: Stage) -> None:
    """Not when the newest task was cleared and the store opened anew; nor are assignments' numbers."""
    stage.bury(ADD, ADD)
    stage.settle(Clear(EVERYTHING, 9))
    stage.reopen()
    (assigned,) = stage.start(ADD)

    assert (assigned.task_id, assigned.assignment_id, assigned.client_id) == (3, 3, 2)


def test_a_store_that_is_closed_is_one_file(stage: Stage) -> None:
    """The write-ahead log is merged into it: who copies the file has everything. Beside it lies the folder's memory."""
    stage.submit(ADD)
    stage.close()

    assert sorted(path.name for path in stage.path.parent.iterdir()) == ["tasks.db", "tasks.db.epoch"]


@pytest.mark.parametrize("balance", [LeastLoaded(), RoundRobin(), Random(random.Random(1))])
def test_every_strategy_works_on_the_store(stage: Stage, balance: Balance) -> None:
    """Whoever is chosen gets it."""
    stage.submit(*[ADD] * 4)
    clients = [stage.join(name).client_id for name in ("w1", "w2")]
    with closing(open_store(stage.path, balance)) as store:
        assigned = store.apply(Batch(seats=[seat(client, free=2) for client in clients]), NOON).assigned

    assert sorted(one.client_id for one in assigned) == [1, 1, 2, 2]


# --- one bad item ----------------------------------------------------------------------------------------------

BAD_TASKS = {
    "a lone surrogate in the payload": NewTask("add", '"\ud800"'),
    "a lone surrogate in the kind": NewTask("\ud800", "1"),
    "a lone surrogate in the key": NewTask("add", "1", "\ud800"),
    "a NUL in the kind": NewTask("a\0dd", "1"),
    "a NUL in the key": NewTask("add", "1", "k\0"),
    "a NUL in the payload": NewTask("add", '"\0"'),
    "a NUL in the kind of a long one": NewTask("a\0dd", f'"{"x" * LONG}"'),
    "a NUL in the key of a long one": NewTask("add", f'"{"x" * LONG}"', "k\0"),
    "a NUL in a long payload": NewTask("add", f'"{"x" * LONG}\0"'),
    "a priority of 2**63": NewTask("add", "1", priority=2**63),
    "a priority of -2**63 - 1": NewTask("add", "1", priority=-(2**63) - 1),
    "a priority of 2**64": NewTask("add", "1", priority=2**64),
    "a priority of 2**70": NewTask("add", "1", priority=2**70),
    "a huge number of retries": NewTask("add", "1", max_retries=2**63),
    "a timeout of for ever": NewTask("add", "1", timeout=2**64 - 1),
    "a delay beyond time": NewTask("add", "1", delay=2**63 - 1),
    "an instant beyond time": NewTask("add", "1", run_at=2**70),
    "a text for a priority": NewTask("add", "1", priority="high"),  # type: ignore[arg-type]
    "a broken priority": NewTask("add", "1", priority=1.5),  # type: ignore[arg-type]
    "nothing for a payload": NewTask("add", None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("bad", BAD_TASKS.values(), ids=BAD_TASKS.keys())
def test_one_bad_task_among_49_good_ones_is_refused_alone(stage: Stage, bad: NewTask) -> None:
    """Its submission, that is; the neighbours are on disk, numbered as if it had not been there."""
    good = [Submission((NewTask("add", str(number), f"k{number}"),)) for number in range(49)]
    receipt = stage.apply(Batch(submissions=[*good[:24], Submission((ADD, bad)), *good[24:]]))
    refused = receipt.submissions.pop(24)

    assert isinstance(refused, Refused)
    assert refused.reason.startswith("the store cannot hold it: ")
    assert "\n" not in refused.reason
    assert refused.cause is Cause.CONTENT
    assert receipt.submissions == [Submitted([number], []) for number in range(1, 50)]
    assert stage.sql("SELECT count(*), max(id) FROM tasks") == [(49, 49)]
    assert stage.submit(ADD) == [50]


def test_a_key_that_ends_like_another_is_not_that_other(stage: Stage) -> None:
    """SQLite's JSON ends a text at its NUL; such a key must not find the task of its beginning."""
    stage.submit(NewTask("add", "1", "k"))

    assert isinstance(stage.offer(NewTask("add", "1", "k\0x")), Refused)


@dataclass
class Mixed:
    """A batch with something good of everything."""

    batch: Batch
    answers: dict[str, list[Any]]


def mixed(stage: Stage) -> Mixed:
    """Let something happen, and give a batch that goes on with all of it."""
    stage.bury(ADD, ADD)
    first, second = stage.start(NewTask("mul", "1"), NewTask("mul", "1"))
    leaving, staying = stage.join("w2").client_id, stage.join("w3").client_id
    batch = Batch(
        registrations=[Registration("w4", "", ("add",), 1)],
        changes=[Change(staying, ("sub",), 3)],
        reports=[report(first, OK), report(second, HOPELESS)],
        departures=[Departure(leaving, Why.GOODBYE)],
        commands=[Reprocess(Selection(ids=(1,)), 9), Clear(Selection(kind="add"), 9)],
        submissions=[Submission((NewTask("sub", "1"),)), Submission((NewTask("sub", "2", "k"),))],
        heartbeats={staying: NOON + 5},
        log_position=2,
        seats=[seat(staying, "sub")],
    )
    answers: dict[str, list[Any]] = {
        "registrations": [Registered(5)],
        "reports": [Verdict(accepted=True, state="completed"), Verdict(accepted=True, state="dead")],
        "commands": [Resolved(1, 0), Resolved(1, 0)],
        "submissions": [Submitted([5], []), Submitted([6], [])],
    }
    return Mixed(batch, answers)


BAD_ITEMS: dict[str, tuple[str, object]] = {
    "no bad item": ("", None),
    "a client of no text": ("registrations", Registration("\ud800", "", (), 1)),
    "a client of no number": ("registrations", Registration("w", "", (), 2**70)),
    "a result of no text": ("reports", Report(2, 3, 3, Success("\ud800"))),
    "a result with a NUL": ("reports", Report(2, 3, 3, Success("\0"))),
    "a long result with a NUL": ("reports", Report(2, 3, 3, Success("\0" + "x" * LONG))),
    "a failure of no text": ("reports", Report(2, 3, 3, Failed(Failure("\ud800")))),
    "a command of no text": ("commands", Clear(Selection(kind="\ud800"), 9)),
    "a task of no text": ("submissions", Submission((NewTask("add", "\ud800"),))),
}


@pytest.mark.parametrize(("name", "item"), BAD_ITEMS.values(), ids=BAD_ITEMS.keys())
def test_a_bad_item_of_any_kind_is_refused_alone(stage: Stage, name: str, item: object) -> None:
    """In its place among the answers; everything else of the batch happens, whatever list it is in."""
    scene = mixed(stage)
    if name:
        getattr(scene.batch, name).insert(0, item)
    receipt = stage.apply(scene.batch)
    answers = {answered: getattr(receipt, answered) for answered in scene.answers}

    if name:
        assert isinstance(answers[name].pop(0), Refused)
    assert answers == scene.answers
    assert stage.states(*range(1, 7)) == ["pending", None, "completed", "dead", "assigned", "assigned"]
    assert sorted(one.task_id for one in receipt.assigned) == [5, 6]
    assert [left.name for left in receipt.left] == ["w2"]
    assert [ended.task_id for ended in receipt.ended] == [3, 4]
    assert receipt.audited
    assert [line["event"] for line in stage.audit()] == ["dead", "dead", "dead", "reprocessed", "cleared"]
    assert stage.sql("SELECT kinds, capacity, last_heartbeat_at FROM clients WHERE id = 4") == [
        ('["sub"]', 3, NOON + 5)
    ]
    assert stage.sql("SELECT log_position FROM meta") == [(2,)]


def test_a_batch_with_a_bad_item_still_tells_what_comes_next(stage: Stage) -> None:
    """When the next task falls due, and that more waits to be given out than one transaction does."""
    stage.submit(*[ADD] * (MAX_ASSIGNED + 1))
    client = stage.join().client_id
    batch = Batch(
        submissions=[Submission((NewTask("add", "1", delay=SECOND),)), Submission((NewTask("\0", "1"),))],
        seats=[seat(client, free=9_999)],
    )
    receipt = stage.apply(batch)

    assert isinstance(receipt.submissions[1], Refused)
    assert receipt.next_due_at == NOON + SECOND
    assert receipt.may_have_more


def test_a_report_that_cannot_be_kept_can_be_replaced_by_one_that_can(stage: Stage) -> None:
    """The refusal leaves the attempt open: the worker may still say something else."""
    (assigned,) = stage.start(ADD)
    receipt = stage.apply(Batch(reports=[report(assigned, Success("\ud800"))]))

    assert isinstance(receipt.reports[0], Refused)
    assert stage.states(1) == ["assigned"]
    assert stage.report(assigned, OK) == Verdict(accepted=True, state="completed")


def test_a_client_that_leaves_in_a_batch_with_a_bad_item_gets_nothing_either(stage: Stage) -> None:
    """Taken apart, the batch still sees it off before it gives anything out."""
    client = stage.join().client_id
    receipt = stage.apply(
        Batch(
            departures=[Departure(client, Why.GOODBYE)],
            submissions=[Submission((ADD,)), Submission((NewTask("\0", "1"),))],
            seats=[seat(client)],
        )
    )

    assert receipt.assigned == []
    assert stage.states(1) == ["pending"]


# --- when it cannot be -----------------------------------------------------------------------------------------


@contextmanager
def another_writer(stage: Stage) -> Iterator[None]:
    """Hold the write lock of the store's file, as somebody's database browser may."""
    with closing(sqlite3.connect(stage.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def be_impatient(stage: Stage) -> None:
    """Do not wait for locks, so that the test need not either."""
    driver: Any = stage.store._connection.connection.dbapi_connection
    driver.execute("PRAGMA busy_timeout = 0")


def test_a_batch_that_finds_the_store_locked_changes_nothing_and_works_later(stage: Stage) -> None:
    """The same batch, as often as it takes; then everything in it has happened once."""
    scene = mixed(stage)
    be_impatient(stage)
    before = everything_in(stage)
    with another_writer(stage):
        for _ in range(3):
            with pytest.raises(StoreBusy, match="another program holds the database's write lock"):
                stage.apply(scene.batch)
        during = everything_in(stage)
    receipt = stage.apply(scene.batch)

    assert during == before
    assert {name: getattr(receipt, name) for name in scene.answers} == scene.answers


def open_files() -> list[str]:
    """List what this process has open, where the system tells."""
    links = Path("/proc/self/fd")
    return sorted(str(link.readlink()) for link in links.iterdir() if link.is_symlink()) if links.exists() else []


def test_a_store_that_is_locked_does_not_open(stage: Stage) -> None:
    """It says so, and keeps nothing of the file open."""
    stage.close()
    before = open_files()
    with another_writer(stage), pytest.raises(StoreBusy):
        open_store(stage.path)
    after = open_files()
    stage.store = open_store(stage.path)

    assert after == before
    assert stage.sql("SELECT epoch FROM meta") == [(2,)]


IMPOSSIBLE = {
    "a heartbeat of nobody": Batch(heartbeats={99: NOON}),
    "a change of nobody": Batch(changes=[Change(99, (), 1)]),
}


@pytest.mark.parametrize("batch", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_a_picture_of_the_store_that_is_wrong_stops_the_program(stage: Stage, batch: Batch) -> None:
    """Nothing is committed on it, and nobody gets an answer."""
    before = everything_in(stage)
    batch.submissions.append(Submission((ADD,)))

    with pytest.raises(StoreFailed, match="wanted to change 1 rows, changed 0"):
        stage.apply(batch)
    assert everything_in(stage) == before


def test_a_database_that_fails_stops_the_program(stage: Stage) -> None:
    """With its own word for what is wrong: whether anything was saved, nobody can say."""
    with closing(sqlite3.connect(stage.path)) as other:
        other.execute("ALTER TABLE activity RENAME TO gone")
    with pytest.raises(StoreFailed, match=r"the database failed \(no such table: activity\)"):
        stage.submit(ADD)
    stage.close()
    with closing(sqlite3.connect(stage.path)) as other:
        other.execute("ALTER TABLE gone RENAME TO activity")
    stage.store = open_store(stage.path)

    assert stage.submit(ADD) == [1]


def test_a_row_that_cannot_be_read_stops_the_program(stage: Stage) -> None:
    """Which shows only once the statement has run, when its rows are fetched."""
    stage.submit(ADD)
    with closing(sqlite3.connect(stage.path)) as other, other:
        other.execute("UPDATE tasks SET payload = CAST(x'22ff22' AS TEXT)")

    with pytest.raises(StoreFailed, match=r"the database failed \(Could not decode to UTF-8 column 'payload'"):
        stage.apply(Batch(seats=[seat(1, "add")]))
