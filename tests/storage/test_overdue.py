"""What time ends: attempts by their timeouts, and waiting tasks by their expiries."""

from __future__ import annotations

import json

import pytest

from dtm.core.lifecycle import State
from dtm.storage.batch import Batch, Failed, Failure, NewTask, Released, Reprocess, Selection, Submission, Success, Why
from dtm.storage.overdue import MAX_OVERDUE
from dtm.storage.receipt import Ended, Retried, Stopped, Verdict
from tests.storage.stage import BACKOFF, FAILED, NOON, OK, SECOND, UNBEGUN, Stage, report, seat

QUICK = NewTask("add", "1", timeout=30 * SECOND)
SHORT_LIVED = NewTask("add", "1", expires=30 * SECOND)
TIMEOUT = Failure("TimeoutError", "not over after 30 s, which is all it may take")


# --- timeouts --------------------------------------------------------------------------------------------------


def test_an_attempt_past_its_deadline_is_a_failure(stage: Stage) -> None:
    """Judged like any other; its client is told to stop."""
    (assigned,) = stage.start(QUICK)
    stage.wait(30)
    receipt = stage.apply(Batch())
    task = stage.task(1)

    assert receipt.stopped == [Stopped(assigned.client_id, assigned.assignment_id, 1, 0, "timeout")]
    assert receipt.retried == [
        Retried(1, "add", 1, 1, "timed out", TIMEOUT.summary, NOON + 30 * SECOND + BACKOFF),
    ]
    assert (task.state, task.retry_count, task.failure, task.deadline_at) == ("scheduled", 1, TIMEOUT, None)
    assert stage.sql("SELECT outcome, finished_at FROM assignments") == [("timed out", NOON + 30 * SECOND)]


def test_an_attempt_has_all_its_time(stage: Stage) -> None:
    """Not a microsecond less, from when it was assigned."""
    stage.submit(QUICK)
    stage.wait(10)
    (assigned,) = stage.give(stage.join().client_id)
    deadline_at = stage.task(1).deadline_at
    stage.now = NOON + 40 * SECOND - 1
    receipt = stage.apply(Batch())

    assert deadline_at == stage.store.next_deadline_at == NOON + 40 * SECOND
    assert receipt.stopped == []
    assert stage.report(assigned, OK).state == "completed"
    assert stage.task(1).deadline_at is None


def test_a_result_that_comes_with_the_last_moment_counts(stage: Stage) -> None:
    """What is in the same transaction came before."""
    (assigned,) = stage.start(QUICK)
    stage.wait(31)
    receipt = stage.apply(Batch(reports=[report(assigned, OK)]))

    assert receipt.reports == [Verdict(accepted=True, state="completed")]
    assert receipt.stopped == []


@pytest.mark.parametrize("outcome", [OK, FAILED])
def test_a_late_result_is_stale(stage: Stage, outcome: Success) -> None:
    """Whatever it says, and as often as it is said."""
    (assigned,) = stage.start(QUICK)
    stage.wait(30)
    stage.apply(Batch())

    for _ in range(2):
        assert stage.report(assigned, outcome) == Verdict(accepted=False, state="scheduled")
    assert stage.task(1).retry_count == 1


def test_the_third_timeout_is_the_end(stage: Stage) -> None:
    """A dead letter that says why."""
    (assigned,) = stage.start(QUICK)
    for attempt in range(1, 4):
        stage.wait(30)
        stage.apply(Batch())
        stage.now += BACKOFF * attempt
        stage.give(assigned.client_id)

    assert (stage.task(1).state, stage.task(1).retry_count) == ("dead", 3)
    assert stage.sql("SELECT reason FROM dead_letters") == [("timed out",)]


@pytest.mark.parametrize(
    ("policy", "state"),
    [
        ({"no_retry_for": ["TimeoutError"]}, "dead"),
        ({"no_retry_for": ["OSError"]}, "dead"),
        ({"retry_for": ["TimeoutError"]}, "scheduled"),
        ({"retry_for": ["OSError"]}, "scheduled"),
        ({"retry_for": ["ValueError"]}, "dead"),
    ],
)
def test_a_timeout_is_judged_as_a_timeout_error(stage: Stage, policy: dict[str, list[str]], state: str) -> None:
    """By that name the policy knows it, or as the OSError that it is."""
    stage.start(NewTask("add", "1", timeout=SECOND, retry=json.dumps(policy)))
    stage.wait(1)
    stage.apply(Batch())

    assert stage.task(1).state == state


def test_what_is_spared_is_not_ended(stage: Stage) -> None:
    """Its client may not have had a chance to report; then it has to end by the same clock."""
    (assigned,) = stage.start(QUICK)
    stage.wait(30)
    spared = stage.apply(Batch(spares_overdue=True))
    verdict = stage.apply(Batch(reports=[report(assigned, OK)], spares_overdue=True)).reports[0]

    assert spared.stopped == []
    assert verdict == Verdict(accepted=True, state="completed")


def test_a_reopened_store_knows_the_next_deadline_and_expiry(stage: Stage) -> None:
    """They are on disk, not only in memory."""
    stage.start(QUICK, NewTask("add", "1"))
    stage.submit(NewTask("mul", "1", expires_at=NOON + 7 * SECOND))
    stage.reopen()

    assert stage.store.next_deadline_at == NOON + 30 * SECOND
    assert stage.store.next_due_at == NOON + 7 * SECOND


def test_a_client_that_is_gone_is_no_timeout(stage: Stage) -> None:
    """Its attempt is over, and so is the deadline."""
    (assigned,) = stage.start(QUICK)
    stage.leave(assigned.client_id, Why.GOODBYE)
    stage.wait(30)
    receipt = stage.apply(Batch())

    assert receipt.stopped == []
    assert (stage.task(1).state, stage.task(1).retry_count) == ("pending", 0)
    assert stage.store.next_deadline_at is None


def test_a_flood_of_timeouts_is_ended_in_parts(stage: Stage) -> None:
    """No transaction takes more than its bound, and none is forgotten."""
    client = stage.join().client_id
    stage.apply(
        Batch(submissions=[Submission((QUICK,) * (MAX_OVERDUE + 1))], seats=[seat(client, free=MAX_OVERDUE + 1)])
    )
    stage.apply(Batch(seats=[seat(client, free=MAX_OVERDUE + 1)]))
    stage.wait(30)
    first, second, third = stage.apply(Batch()), stage.apply(Batch()), stage.apply(Batch())

    assert [len(receipt.stopped) for receipt in (first, second, third)] == [MAX_OVERDUE, 1, 0]
    assert [receipt.may_have_more for receipt in (first, second)] == [True, False]


# --- expiries --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [SHORT_LIVED, NewTask("add", "1", expires_at=NOON + 30 * SECOND)])
def test_a_task_that_nobody_began_in_time_expires(stage: Stage, task: NewTask) -> None:
    """It ends, and whoever waits for it hears so; it is no dead letter."""
    stage.submit(task)
    due_at = stage.store.next_due_at
    stage.wait(30)
    receipt = stage.apply(Batch())
    found = stage.task(1)

    assert due_at == NOON + 30 * SECOND
    assert receipt.ended == [Ended(1, "add", State.EXPIRED)]
    assert (found.state, found.finished_at) == ("expired", NOON + 30 * SECOND)
    assert stage.sql("SELECT * FROM dead_letters") == []
    assert stage.store.next_due_at is None


def test_a_task_that_was_begun_in_time_may_end(stage: Stage) -> None:
    """However long it takes."""
    (assigned,) = stage.start(SHORT_LIVED)
    stage.wait(31)
    stage.apply(Batch())

    assert stage.report(assigned, OK).state == "completed"


def test_a_task_whose_next_try_comes_too_late_expires(stage: Stage) -> None:
    """No attempt begins after that instant, not the second either; what went wrong is still told."""
    (assigned,) = stage.start(NewTask("add", "1", expires=BACKOFF // 2))
    stage.report(assigned, FAILED)
    stage.wait(BACKOFF / SECOND)
    assigned_now = stage.give(assigned.client_id)

    assert assigned_now == []
    assert (stage.task(1).state, stage.task(1).failure) == ("expired", FAILED.failure)


@pytest.mark.parametrize("outcome", [UNBEGUN, FAILED, Released(delay=60 * SECOND)])
def test_a_task_that_comes_back_after_its_expiry_expires(stage: Stage, outcome: Released | Failed) -> None:
    """Although the store had looked at that instant, when it was running."""
    (assigned,) = stage.start(SHORT_LIVED)
    stage.wait(31)
    stage.apply(Batch())
    stage.report(assigned, outcome)
    stage.apply(Batch())

    assert stage.task(1).state == "expired"


@pytest.mark.parametrize("task", [NewTask("add", "1", expires=0), NewTask("add", "1", expires_at=5)])
def test_a_task_that_comes_too_late_is_never_given_out(stage: Stage, task: NewTask) -> None:
    """Not even by the transaction that takes it in."""
    client = stage.join().client_id
    assigned = stage.apply(Batch(submissions=[Submission((task,))], seats=[seat(client)])).assigned
    assigned += stage.apply(Batch(seats=[seat(client)])).assigned

    assert assigned == []
    assert stage.task(1).state == "expired"


def test_a_flood_of_expiries_is_ended_in_parts_and_none_is_given_out(stage: Stage) -> None:
    """A free client gets what is still good, although more has expired than one transaction ends."""
    client = stage.join().client_id
    stage.submit(*[SHORT_LIVED] * (MAX_OVERDUE + 5))
    (good,) = stage.submit(NewTask("add", "1", priority=-1))
    stage.wait(30)
    first = stage.apply(Batch(seats=[seat(client)]))
    second = stage.apply(Batch(seats=[seat(client)]))

    assert [len(receipt.ended) for receipt in (first, second)] == [MAX_OVERDUE, 5]
    assert first.may_have_more
    assert [one.task_id for one in first.assigned + second.assigned] == [good]


def test_a_reprocessed_task_does_not_expire(stage: Stage) -> None:
    """An operator who lets it run again wants it to run."""
    stage.bury(SHORT_LIVED)
    stage.wait(31)
    stage.settle(Reprocess(Selection(ids=(1,)), 1))
    assigned = stage.give(stage.join().client_id)

    assert [one.task_id for one in assigned] == [1]
    assert stage.task(1).expires_at is None
