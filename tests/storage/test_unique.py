"""Unique while active: a second of the same kind and key is the first, until that has ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dtm.storage.batch import Batch, Cancellation, NewTask, Reprocess, Selection, Submission, Why
from dtm.storage.receipt import Refused, Submitted
from tests.storage.stage import BACKOFF, FAILED, HOPELESS, OK, SECOND, UNBEGUN, Stage, report

TASK = NewTask("add", "1", unique="u")


def scheduled(stage: Stage) -> None:
    stage.submit(NewTask("add", "1", unique="u", delay=SECOND))


def pending(stage: Stage) -> None:
    stage.submit(TASK)


def assigned(stage: Stage) -> None:
    stage.start(TASK)


def retried(stage: Stage) -> None:
    stage.report(stage.start(TASK)[0], FAILED)


def released(stage: Stage) -> None:
    stage.report(stage.start(TASK)[0], UNBEGUN)


def asked_to_stop(stage: Stage) -> None:
    stage.start(TASK)
    stage.apply(Batch(cancellations=[Cancellation((1,))]))


def completed(stage: Stage) -> None:
    stage.report(stage.start(TASK)[0], OK)


def dead(stage: Stage) -> None:
    stage.bury(TASK)


def cancelled(stage: Stage) -> None:
    stage.submit(TASK)
    stage.apply(Batch(cancellations=[Cancellation((1,))]))


def expired(stage: Stage) -> None:
    stage.submit(NewTask("add", "1", unique="u", expires=SECOND))
    stage.wait(1)
    stage.apply(Batch())


@pytest.mark.parametrize("active", [scheduled, pending, assigned, retried, released, asked_to_stop])
def test_while_the_first_is_active_the_second_is_the_first(stage: Stage, active: Callable[[Stage], None]) -> None:
    """Its id is given, and nothing is inserted, whatever the payload."""
    active(stage)
    answer = stage.offer(NewTask("add", "2", unique="u"))

    assert answer == Submitted([1], [1])
    assert stage.sql("SELECT count(*) FROM tasks") == [(1,)]


@pytest.mark.parametrize("ended", [completed, dead, cancelled, expired])
def test_once_the_first_has_ended_the_second_is_its_own(stage: Stage, ended: Callable[[Stage], None]) -> None:
    """However it has ended."""
    ended(stage)

    assert stage.offer(TASK) == Submitted([2], [])


def test_another_kind_or_key_is_another_task(stage: Stage) -> None:
    """And one without a key is never a second."""
    stage.submit(TASK)

    assert stage.offer(
        NewTask("mul", "1", unique="u"), NewTask("add", "1", unique="v"), NewTask("add", "1")
    ) == Submitted([2, 3, 4], [])


def test_twins_in_one_submission_and_in_one_transaction(stage: Stage) -> None:
    """What is taken in together is one as well."""
    receipt = stage.apply(Batch(submissions=[Submission((TASK, TASK)), Submission((TASK,))]))

    assert receipt.submissions == [Submitted([1, 1], [1]), Submitted([1], [1])]


def test_a_submission_that_is_refused_leaves_no_twin(stage: Stage) -> None:
    """The next one is the first."""
    stage.submit(NewTask("add", "1", "k"))
    conflict = Submission((TASK, NewTask("add", "2", "k")))
    receipt = stage.apply(Batch(submissions=[conflict, Submission((TASK,))]))

    assert isinstance(receipt.submissions[0], Refused)
    assert receipt.submissions[1] == Submitted([2], [])


def test_an_end_in_the_same_transaction_comes_first(stage: Stage) -> None:
    """The key is free again by the time that the submission is looked at."""
    (first,) = stage.start(TASK)
    receipt = stage.apply(Batch(reports=[report(first, OK)], submissions=[Submission((TASK,))]))

    assert receipt.submissions == [Submitted([2], [])]


def test_a_key_comes_before_uniqueness(stage: Stage) -> None:
    """It names its task for ever, ended or not."""
    stage.report(stage.start(NewTask("add", "1", "k", unique="u"))[0], OK)
    stage.submit(TASK)

    assert stage.offer(NewTask("add", "1", "k", unique="u")) == Submitted([1], [1])


def test_a_key_comes_before_uniqueness_in_one_submission_too(stage: Stage) -> None:
    """Whatever was taken just before."""
    stage.bury(NewTask("add", "1", "k", unique="u"))

    assert stage.offer(TASK, NewTask("add", "1", "k", unique="u"), TASK) == Submitted([2, 1, 2], [1, 2])


def test_dead_tasks_run_again_beside_their_twins(stage: Stage) -> None:
    """An operator's word counts: only one of them keeps the key, so that the others' is free when that one ends."""
    for _ in range(2):
        stage.bury(TASK)
        stage.now += BACKOFF
    stage.submit(NewTask("mul", "1", unique="u"))
    done = stage.settle(Reprocess(Selection(everything=True), 10)).done

    assert done == 2
    assert stage.sql("SELECT id, state, unique_key FROM tasks WHERE kind = 'add' ORDER BY id") == [
        (1, "pending", "u"),
        (2, "pending", None),
    ]
    assert stage.offer(TASK) == Submitted([1], [1])


def test_a_dead_task_runs_again_beside_an_active_twin(stage: Stage) -> None:
    """The active one keeps the key."""
    stage.bury(TASK)
    stage.submit(TASK)
    stage.settle(Reprocess(Selection(everything=True), 10))

    assert stage.sql("SELECT unique_key FROM tasks ORDER BY id") == [(None,), ("u",)]


def test_a_death_keeps_the_key_taken(stage: Stage) -> None:
    """The task goes on with another client."""
    (first,) = stage.start(TASK)
    stage.leave(first.client_id, Why.SILENT)

    assert stage.offer(TASK) == Submitted([1], [1])


def test_a_rejected_twin_is_free(stage: Stage) -> None:
    """Dead is an end."""
    (first,) = stage.start(TASK)
    receipt = stage.apply(Batch(reports=[report(first, HOPELESS)], submissions=[Submission((TASK,))]))

    assert receipt.submissions == [Submitted([2], [])]
