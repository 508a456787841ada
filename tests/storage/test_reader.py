"""What an onlooker sees: tasks, their history, letters and lines, each look of one moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from dtm.storage.batch import Clear, Failed, Failure, NewTask, Reprocess, Selection, Why
from dtm.storage.errors import StoreFailed
from dtm.storage.reader import Reader
from dtm.storage.view import AttemptRow, DeadLetterRow
from tests.storage.stage import BACKOFF, BOOM, FAILED, MINUTE, NOON, OK, SECOND, Stage, meanwhile

ADD = NewTask("add", "1")
EVERYTHING = Selection(everything=True)


@pytest.fixture
def reader(stage: Stage) -> Iterator[Reader]:
    """Somebody who looks on while the store works."""
    with closing(Reader.open(stage.path)) as reader:
        yield reader


# --- tasks -----------------------------------------------------------------------------------------------------


def test_tasks_come_in_the_order_asked_for(stage: Stage, reader: Reader) -> None:
    """Twice if asked twice; nothing where there is none."""
    stage.submit(ADD, ADD)
    found = reader.tasks_by_id([2, 99, 1, 2, 0, -1, 2**63 - 1])

    assert [None if task is None else task.id for task in found] == [2, None, 1, 2, None, None, None]
    assert reader.tasks_by_id([]) == []


@pytest.mark.parametrize("id", [2**63, 2**64, 2**70, -(2**63) - 1])
def test_a_number_that_no_task_can_have_finds_none(reader: Reader, id: int) -> None:
    """It is not cut down to one that a task has."""
    assert reader.tasks_by_id([id]) == [None]
    assert reader.history(id) is None


def test_many_tasks_are_found_at_once(stage: Stage, reader: Reader) -> None:
    """More than SQLite takes parameters."""
    stage.submit(*[ADD] * 3)
    found = reader.tasks_by_id(list(range(40_000)))

    assert [task.id for task in found if task is not None] == [1, 2, 3]


def test_the_newest_tasks_come_first(stage: Stage, reader: Reader) -> None:
    """As many as asked for."""
    stage.submit(*[ADD] * 5)

    assert [task.id for task in reader.newest_tasks(state=None, kind=None, limit=3)] == [5, 4, 3]
    assert [task.id for task in reader.newest_tasks(state=None, kind=None, limit=99)] == [5, 4, 3, 2, 1]
    assert reader.newest_tasks(state=None, kind=None, limit=0) == []


@pytest.mark.parametrize(
    ("state", "kind", "ids"),
    [
        ("pending", None, [6, 5]),
        ("scheduled", None, [4, 2]),
        ("completed", None, [1]),
        ("dead", None, []),
        (None, "mul", [6, 3]),
        ("assigned", "mul", [3]),
        ("assigned", "add", []),
        ("PENDING", None, []),
        (None, "%", []),
    ],
)
def test_a_list_of_tasks_is_what_was_asked_for(
    stage: Stage, reader: Reader, state: str | None, kind: str | None, ids: list[int]
) -> None:
    """Conditions add up, and are no patterns."""
    done, failed, _ = stage.start(ADD, ADD, NewTask("mul", "1"))
    stage.report(done, OK)
    stage.report(failed, FAILED)
    stage.submit(NewTask("add", "1", delay=SECOND), ADD, NewTask("mul", "1"))

    assert [task.id for task in reader.newest_tasks(state=state, kind=kind, limit=9)] == ids


# --- histories -------------------------------------------------------------------------------------------------


def test_a_history_tells_every_attempt_and_every_death(stage: Stage, reader: Reader) -> None:
    """In their order: who had it, from when to when, and how it went; and what is going on now."""
    (first,) = stage.start(NewTask("add", "1", max_retries=2))
    stage.wait(1)
    stage.report(first, FAILED)
    stage.now = NOON + SECOND + BACKOFF
    stage.give(first.client_id)
    stage.wait(1)
    stage.leave(first.client_id, Why.SILENT)
    stage.settle(Reprocess(EVERYTHING, 1))
    stage.wait(1)
    stage.give(stage.join("w2").client_id)
    history = reader.history(1)
    died = Failure("ClientDied", "client w1: silent")

    assert history is not None
    assert history.task.state == "assigned"
    assert history.attempts == [
        AttemptRow(1, "w1", "10.0.0.7:5000", NOON, NOON + SECOND, "failed", BOOM),
        AttemptRow(2, "w1", "10.0.0.7:5000", NOON + 11 * SECOND, NOON + 12 * SECOND, "died", died),
        AttemptRow(3, "w2", "10.0.0.7:5000", NOON + 13 * SECOND, None, None, None),
    ]
    assert history.dead_letters == [
        DeadLetterRow(
            task_id=1,
            kind="add",
            reason="died",
            error=died.summary,
            died_at=NOON + 12 * SECOND,
            resolved_at=NOON + 12 * SECOND,
            resolution="reprocessed",
            payload="1",
            retry_count=0,
            id=1,
        )
    ]


def test_a_new_task_has_no_history_yet(stage: Stage, reader: Reader) -> None:
    """And one that does not exist has none at all."""
    stage.submit(ADD)
    history = reader.history(1)

    assert history is not None
    assert (history.attempts, history.dead_letters) == ([], [])
    assert reader.history(2) is None


def test_deaths_outlive_their_task(stage: Stage, reader: Reader) -> None:
    """Cleared, the task is gone; that it died and was cleared is still to be seen."""
    stage.bury(ADD)
    stage.wait(1)
    stage.settle(Clear(EVERYTHING, 1))

    assert reader.history(1) is None
    assert reader.deaths(1) == [
        DeadLetterRow(1, "add", "rejected", "ValueError: boom", NOON, NOON + SECOND, "cleared", None, None, 1)
    ]
    assert reader.deaths(2) == []


# --- dead letters ----------------------------------------------------------------------------------------------


@pytest.fixture
def letters(stage: Stage) -> Stage:
    """Four deaths in as many minutes, the second of which was reprocessed and the third cleared."""
    for kind, error in (("add", "KeyError"), ("add", "ValueError"), ("mul", "KeyError"), ("mul", "ValueError")):
        (assigned,) = stage.start(NewTask(kind, f'"{error}"'))
        stage.report(assigned, Failed(Failure(error), may_retry=False))
        stage.wait(60)
    stage.settle(Reprocess(Selection(ids=(2,)), 1))
    stage.settle(Clear(Selection(ids=(3,)), 1))
    return stage


@pytest.mark.usefixtures("letters")
def test_open_letters_are_listed_the_newest_first(reader: Reader) -> None:
    """With what their task is; settled ones are not among them."""
    assert reader.dead_letters(EVERYTHING, limit=9) == [
        DeadLetterRow(4, "mul", "rejected", "ValueError", NOON + 3 * MINUTE, None, None, '"ValueError"', 1, 4),
        DeadLetterRow(1, "add", "rejected", "KeyError", NOON, None, None, '"KeyError"', 1, 1),
    ]


@pytest.mark.parametrize(
    ("selection", "tasks"),
    [
        (EVERYTHING, [4, 1]),
        (Selection(), []),
        (Selection(kind="add"), [1]),
        (Selection(error="keyerror"), [1]),
        (Selection(ids=(1, 2, 3)), [1]),
        (Selection(died_before=NOON + MINUTE), [1]),
        (Selection(everything=True, through=3), [1]),
    ],
)
def test_all_ways_to_list_letters_mean_the_same(
    letters: Stage, reader: Reader, selection: Selection, tasks: list[int]
) -> None:
    """Whole, as ids and as a count; and a command with the same words would settle the same."""
    assert [letter.task_id for letter in reader.dead_letters(selection, limit=9)] == tasks
    assert reader.dead_tasks(selection, limit=9) == tasks
    assert reader.count_dead_letters(selection) == (len(tasks), max(tasks, default=0))
    assert letters.settle(Reprocess(selection, 9)).done == len(tasks)


@pytest.mark.usefixtures("letters")
def test_a_list_of_letters_is_as_long_as_asked_for(reader: Reader) -> None:
    """The count tells how many there are."""
    assert [letter.task_id for letter in reader.dead_letters(EVERYTHING, limit=1)] == [4]
    assert reader.dead_tasks(EVERYTHING, limit=1) == [4]
    assert reader.count_dead_letters(EVERYTHING) == (2, 4)


# --- lines, clients --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("letters")
def test_lines_of_the_log_come_in_their_order_from_where_one_stands(reader: Reader) -> None:
    """In pieces as large as asked for."""
    lines = reader.audit_lines(after=0, limit=99)

    assert [line.seq for line in lines] == [1, 2, 3, 4, 5, 6]
    assert reader.audit_lines(after=2, limit=2) == lines[2:4]
    assert reader.audit_lines(after=6, limit=9) == []


def test_clients_that_have_not_left_are_present(stage: Stage, reader: Reader) -> None:
    """Also those that a server left behind when it ended."""
    for name in ("w1", "w2", "w3"):
        stage.join(name)
    stage.leave(2, Why.GOODBYE)
    stage.reopen()

    assert reader.present_clients() == [1, 3]


# --- looking on ------------------------------------------------------------------------------------------------


def test_each_look_sees_what_is_committed_by_then(stage: Stage, reader: Reader) -> None:
    """An onlooker need not be opened anew, and keeps nobody from working."""
    seen = []
    for _ in range(3):
        stage.submit(ADD)
        seen.append(len(reader.newest_tasks(state=None, kind=None, limit=9)))

    assert seen == [1, 2, 3]


def test_a_moment_is_one_moment(stage: Stage, reader: Reader) -> None:
    """Several looks inside it fit together; the next moment is later."""
    stage.submit(ADD)
    with reader.moment():
        before = reader.tasks_by_id([1, 2])
        stage.submit(ADD)
        with reader.moment():
            during = reader.tasks_by_id([1, 2])
    after = reader.tasks_by_id([1, 2])

    assert during == before
    assert before[1] is None
    assert after[1] is not None


def test_a_history_is_of_one_moment(stage: Stage, reader: Reader) -> None:
    """A task that is assigned while one looks has no attempt that the task itself does not know of."""
    stage.submit(ADD)
    client = stage.join().client_id
    meanwhile(reader, lambda: stage.give(client))
    history = reader.history(1)

    assert history is not None
    assert (history.task.state, history.attempts) == ("pending", [])
    assert stage.states(1) == ["assigned"]


def test_a_look_that_fails_says_why_and_can_be_tried_again(stage: Stage, reader: Reader) -> None:
    """The onlooker is told in the store's words, and is not stuck."""
    with closing(sqlite3.connect(stage.path)) as other:
        other.execute("ALTER TABLE audit RENAME TO gone")
    with pytest.raises(StoreFailed, match=r"cannot be read \(no such table: audit\)"):
        reader.audit_lines(after=0, limit=1)
    with closing(sqlite3.connect(stage.path)) as other:
        other.execute("ALTER TABLE gone RENAME TO audit")

    assert reader.audit_lines(after=0, limit=1) == []


def test_a_look_does_not_change_the_file(stage: Stage) -> None:
    """Not even a closed store's."""
    stage.bury(ADD)
    stage.close()
    before = stage.path.read_bytes()
    with closing(Reader.open(stage.path)) as reader:
        found = reader.history(1)

    assert found is not None
    assert stage.path.read_bytes() == before
