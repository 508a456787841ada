"""How far a running task has come, as its current attempt said last."""

from __future__ import annotations

import pytest

from dtm.storage.batch import Batch, Cancellation, Failed, NewTask, Progress, Released, Success
from dtm.storage.receipt import Assigned, Progressed
from tests.storage.stage import BACKOFF, FAILED, HOPELESS, OK, SECOND, UNBEGUN, Stage, report

HALF = Progress(0.5, "half\u20ac")


def say(stage: Stage, assigned: Assigned, progress: Progress) -> list[Progressed]:
    """Let a client say how far it is."""
    return stage.apply(Batch(progress={(assigned.assignment_id, assigned.task_id): progress})).progressed


def test_the_last_word_is_kept(stage: Stage) -> None:
    """And told, with what the task is."""
    (assigned,) = stage.start()

    assert say(stage, assigned, HALF) == [Progressed(1, 0, HALF)]
    assert stage.task(1).progress == HALF
    assert say(stage, assigned, Progress(None, "still")) == [Progressed(1, 0, Progress(None, "still"))]
    assert stage.task(1).progress == Progress(None, "still")


def test_the_word_of_a_task_that_was_asked_to_stop_says_so(stage: Stage) -> None:
    """Whoever looks on does not forget it."""
    (assigned,) = stage.start()
    stage.apply(Batch(cancellations=[Cancellation((1,))]))

    assert say(stage, assigned, HALF) == [Progressed(1, 0, HALF, cancel_requested=True)]


@pytest.mark.parametrize("pair", [(1, 2), (2, 1), (99, 1), (99, 99)])
def test_the_word_of_another_attempt_changes_nothing(stage: Stage, pair: tuple[int, int]) -> None:
    """Of a number that is none, or that is another task's."""
    stage.start(NewTask("add", "1"), NewTask("add", "1"))
    receipt = stage.apply(Batch(progress={pair: HALF}))

    assert receipt.progressed == []
    assert (stage.task(1).progress, stage.task(2).progress) == (None, None)


def test_a_word_that_comes_with_the_result_counts(stage: Stage) -> None:
    """It was said before; after the end nothing counts."""
    (assigned,) = stage.start()
    stage.apply(Batch(progress={(assigned.assignment_id, 1): HALF}, reports=[report(assigned, OK)]))

    assert stage.task(1).progress == HALF
    assert say(stage, assigned, Progress(0.1)) == []
    assert stage.task(1).progress == HALF


@pytest.mark.parametrize("outcome", [FAILED, UNBEGUN, Released(delay=SECOND)])
def test_the_next_attempt_begins_anew(stage: Stage, outcome: Failed | Released) -> None:
    """What the last one said is not true of it."""
    (assigned,) = stage.start()
    say(stage, assigned, HALF)
    stage.report(assigned, outcome)

    assert stage.task(1).progress is None
    stage.now += BACKOFF
    (again,) = stage.give(assigned.client_id)
    assert say(stage, assigned, HALF) == []
    assert say(stage, again, HALF) == [Progressed(1, stage.task(1).retry_count, HALF)]


@pytest.mark.parametrize("outcome", [OK, HOPELESS])
def test_an_end_keeps_it(stage: Stage, outcome: Success | Failed) -> None:
    """It tells how far the task came."""
    (assigned,) = stage.start()
    say(stage, assigned, HALF)
    stage.report(assigned, outcome)

    assert stage.task(1).progress == HALF
