"""What an operator does with dead letters: which are meant, how many at a time, and what is recorded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtm.storage.batch import Batch, Clear, Failed, Failure, NewTask, Reprocess, Selection
from dtm.storage.deadletters import MAX_CHARACTERS
from dtm.storage.receipt import Refused, Resolved
from tests.storage.stage import FAILED, HOPELESS, MINUTE, NOON, OK, SECOND, Stage, report, seat, what_is_wrong

ADD = NewTask("add", "1")
EVERYTHING = Selection(everything=True)


@pytest.fixture(scope="module")
def buried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five dead tasks of two kinds, three errors and as many minutes; and some that live."""
    stage = Stage(tmp_path_factory.mktemp("graveyard") / "tasks.db")
    dead = [
        ("add", Failure("ValueError", "Bad INPUT 50%")),
        ("mul", Failure("ValueError", "no_thing")),
        ("add", Failure("KeyError", "'ä'")),
        ("mul", Failure("KeyError", "'Ä'")),
        ("add", Failure("ValueError", "bad input")),
    ]
    client = stage.join().client_id
    for kind, failure in dead:
        stage.submit(NewTask(kind, f'"{failure.message}"'))
        (assigned,) = stage.give(client, kind)
        stage.report(assigned, Failed(failure, may_retry=False))
        stage.wait(60)
    stage.submit(ADD, ADD, NewTask("add", "1", delay=SECOND))
    first, second = stage.give(client)
    stage.report(first, OK)
    stage.report(second, FAILED)
    stage.submit(ADD, ADD)
    stage.give(client, free=1)
    stage.close()
    return stage.path


@pytest.fixture
def graveyard(tmp_path: Path, buried: Path) -> Iterator[Stage]:
    """A copy of it."""
    shutil.copy(buried, tmp_path / "tasks.db")
    stage = Stage(tmp_path / "tasks.db")
    yield stage
    stage.close()
    assert what_is_wrong(stage.path) == {}


CHOICES: dict[str, tuple[Selection, list[int]]] = {
    "everything": (EVERYTHING, [1, 2, 3, 4, 5]),
    "nothing asked for": (Selection(), []),
    "nothing but a bound": (Selection(through=99), []),
    "no ids": (Selection(ids=()), []),
    "no ids of everything": (Selection(ids=(), everything=True), []),
    "ids": (Selection(ids=(5, 1)), [1, 5]),
    "an id twice": (Selection(ids=(2, 2)), [2]),
    "ids of the living": (Selection(ids=(6, 7, 8, 9, 10)), []),
    "ids of nobody": (Selection(ids=(0, 99, -1, 2**63 - 1, 2**63, 2**70)), []),
    "a kind": (Selection(kind="mul"), [2, 4]),
    "a kind is no pattern": (Selection(kind="m%"), []),
    "a kind is as it is written": (Selection(kind="MUL"), []),
    "a type of error": (Selection(error="ValueError"), [1, 2, 5]),
    "a part of an error": (Selection(error="bad input"), [1, 5]),
    "an error in other letters": (Selection(error="BAD iNPUT"), [1, 5]),
    "an error is no pattern": (Selection(error="%"), [1]),
    "nor is a letter in it": (Selection(error="no_thing"), [2]),
    "a letter beyond ASCII": (Selection(error="ä"), [3]),
    "the empty part": (Selection(error=""), [1, 2, 3, 4, 5]),
    "died before": (Selection(died_before=NOON + 2 * MINUTE), [1, 2, 3]),
    "died before any": (Selection(died_before=NOON - 1), []),
    "through a letter": (Selection(everything=True, through=2), [1, 2]),
    "a kind and an error": (Selection(kind="add", error="ValueError"), [1, 5]),
    "conditions of which one fails": (Selection(ids=(1,), kind="mul"), []),
    "everything of a kind": (Selection(kind="add", everything=True), [1, 3, 5]),
    "everything at once": (
        Selection((1, 2, 3, 5), "add", "ValueError", NOON + 9 * MINUTE, everything=True, through=4),
        [1],
    ),
}

every_choice = pytest.mark.parametrize(("selection", "meant"), CHOICES.values(), ids=CHOICES.keys())


@every_choice
def test_a_selection_means_these_letters(graveyard: Stage, selection: Selection, meant: list[int]) -> None:
    """Conditions add up; no condition means no letter. They run again, and the others stay dead."""
    resolved = graveyard.settle(Reprocess(selection, 10))
    states = graveyard.states(*range(1, 6))

    assert resolved == Resolved(len(meant), 0)
    assert [id for id in range(1, 6) if states[id - 1] == "pending"] == meant
    assert [id for id in range(1, 6) if states[id - 1] == "dead"] == sorted({1, 2, 3, 4, 5} - set(meant))
    assert graveyard.states(6, 7, 8, 9, 10) == ["completed", "scheduled", "scheduled", "assigned", "pending"]


@every_choice
def test_the_same_selection_clears_the_same_letters(graveyard: Stage, selection: Selection, meant: list[int]) -> None:
    """Only those, and no task that lives."""
    resolved = graveyard.settle(Clear(selection, 10))
    states = graveyard.states(*range(1, 11))

    assert resolved == Resolved(len(meant), 0)
    assert [id for id in range(1, 11) if states[id - 1] is None] == meant


@pytest.mark.parametrize("command", [Reprocess, Clear])
def test_a_command_takes_the_oldest_letters_first(graveyard: Stage, command: type[Reprocess | Clear]) -> None:
    """As many as its limit says, and it says how many it left; repeated, it comes to an end."""
    answers = [graveyard.settle(command(EVERYTHING, 2)) for _ in range(4)]

    assert answers == [Resolved(2, 3), Resolved(2, 1), Resolved(1, 0), Resolved(0, 0)]
    assert [line["task"] for line in graveyard.audit()[5:]] == [1, 2, 3, 4, 5]


def test_a_bound_keeps_a_command_from_later_letters(stage: Stage) -> None:
    """What dies while the slices of a command run was not among what the operator saw."""
    stage.bury(ADD, ADD)
    selection = Selection(everything=True, through=2)
    first = stage.settle(Reprocess(selection, 1))
    stage.bury(NewTask("mul", "1"))
    rest = [stage.settle(Reprocess(selection, 1)) for _ in range(2)]

    assert [first, *rest] == [Resolved(1, 1), Resolved(1, 0), Resolved(0, 0)]
    assert stage.states(3) == ["dead"]


def test_a_command_reads_a_bounded_amount_of_payload(stage: Stage) -> None:
    """The letters beyond it are left for the next slice."""
    large = '"' + "x" * (MAX_CHARACTERS // 2) + '"'
    for _ in range(3):
        stage.bury(NewTask("add", large))

    assert stage.settle(Reprocess(EVERYTHING, 10)) == Resolved(2, 1)
    assert stage.settle(Reprocess(EVERYTHING, 10)) == Resolved(1, 0)


# --- reprocessed -----------------------------------------------------------------------------------------------


def test_a_reprocessed_task_begins_anew_with_its_id_and_its_history(stage: Stage) -> None:
    """All its tries are there again; what happened stays known."""
    stage.bury(NewTask("add", "[1]", "k", priority=4, delay=0, timeout=SECOND))
    stage.wait(60)
    stage.settle(Reprocess(EVERYTHING, 10))
    task = stage.task(1)

    assert (task.state, task.retry_count, task.max_retries) == ("pending", 0, 3)
    assert (task.finished_at, task.run_at, task.assignment_id) == (None, None, None)
    assert (task.payload, task.key, task.priority, task.timeout, task.created_at) == ("[1]", "k", 4, SECOND, NOON)
    assert stage.sql("SELECT id, outcome FROM assignments") == [(1, "failed")]
    assert stage.sql("SELECT resolved_at, resolution FROM dead_letters") == [(NOON + MINUTE, "reprocessed")]


def test_a_reprocessed_task_may_fail_as_often_as_a_new_one(stage: Stage) -> None:
    """Three tries more, and then a second letter beside the first."""
    (id,) = stage.bury(ADD)
    stage.settle(Reprocess(EVERYTHING, 10))
    client = stage.join("w2").client_id
    for _ in range(3):
        (assigned,) = stage.give(client)
        stage.report(assigned, FAILED)
        stage.wait(60)

    assert stage.task(id).retry_count == 3
    assert stage.sql("SELECT task_id, reason, resolution FROM dead_letters ORDER BY id") == [
        (id, "rejected", "reprocessed"),
        (id, "failed", None),
    ]
    assert stage.settle(Reprocess(EVERYTHING, 10)) == Resolved(1, 0)


def test_a_reprocessed_task_meets_a_free_client_in_the_same_transaction(stage: Stage) -> None:
    """Commands come before the claim."""
    (id,) = stage.bury(ADD)
    client = stage.join("w2").client_id
    receipt = stage.apply(Batch(commands=[Reprocess(EVERYTHING, 1)], seats=[seat(client)]))

    assert [one.task_id for one in receipt.assigned] == [id]


def test_a_task_that_dies_is_among_what_the_same_batch_selects(stage: Stage) -> None:
    """Reports come before commands."""
    (assigned,) = stage.start(ADD)
    receipt = stage.apply(Batch(reports=[report(assigned, HOPELESS)], commands=[Reprocess(EVERYTHING, 1)]))

    assert receipt.commands == [Resolved(1, 0)]
    assert [line["event"] for line in stage.audit()] == ["dead", "reprocessed"]


# --- cleared ---------------------------------------------------------------------------------------------------


def test_a_cleared_task_is_gone_and_its_letter_tells_of_it(stage: Stage) -> None:
    """With its attempts; the letter and the lines stay."""
    dead, alive = stage.bury(ADD)[0], stage.submit(ADD)[0]
    stage.wait(60)
    stage.settle(Clear(EVERYTHING, 10))

    assert stage.states(dead, alive) == [None, "pending"]
    assert stage.sql("SELECT count(*) FROM assignments") == [(0,)]
    assert stage.sql("SELECT task_id, kind, error, died_at, resolved_at, resolution FROM dead_letters") == [
        (dead, "add", "ValueError: boom", NOON, NOON + MINUTE, "cleared")
    ]


@pytest.mark.parametrize(("command", "event"), [(Reprocess, "reprocessed"), (Clear, "cleared")])
def test_each_letter_that_is_settled_is_a_line(stage: Stage, command: type[Reprocess | Clear], event: str) -> None:
    """It names the task and quotes its payload once more: after a clearing the line is all there is."""
    stage.bury(NewTask("add", '{"a": "\\u0000\u2028"}'))
    stage.wait(60)
    receipt = stage.apply(Batch(commands=[command(EVERYTHING, 1)]))
    line = stage.audit()[1]

    assert receipt.audited
    assert {name: value for name, value in line.items() if name not in {"prev", "crc"}} == {
        "seq": 2,
        "at": "2023-12-31T05:21:00.000000Z",
        "event": event,
        "task": 1,
        "kind": "add",
        "payload": '{"a": "\\u0000\u2028"}',
        "retry_count": 1,
        "error": "ValueError: boom",
    }


# --- in one batch ----------------------------------------------------------------------------------------------


def test_of_two_commands_on_the_same_letters_the_first_counts(stage: Stage) -> None:
    """Two operators at the same moment do not settle a letter twice."""
    stage.bury(ADD, ADD)
    receipt = stage.apply(
        Batch(commands=[Reprocess(Selection(ids=(1,)), 9), Clear(EVERYTHING, 9), Reprocess(EVERYTHING, 9)])
    )

    assert receipt.commands == [Resolved(1, 0), Resolved(1, 0), Resolved(0, 0)]
    assert stage.states(1, 2) == ["pending", None]


@pytest.mark.parametrize(
    "selection",
    [Selection(died_before=2**70), Selection(kind="\ud800"), Selection(error="\ud800")],
)
def test_a_selection_that_cannot_be_asked_for_is_refused_alone(stage: Stage, selection: Selection) -> None:
    """The command beside it and everything else of the batch is carried out."""
    stage.bury(ADD)
    receipt = stage.apply(Batch(commands=[Reprocess(selection, 9), Reprocess(EVERYTHING, 9)]))

    assert isinstance(receipt.commands[0], Refused)
    assert receipt.commands[1] == Resolved(1, 0)
