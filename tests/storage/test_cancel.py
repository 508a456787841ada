"""Cancelling: what waits ends, what runs is asked, what has ended stays as it is."""

from __future__ import annotations

import pytest

from dtm.core.lifecycle import State
from dtm.storage.batch import (
    Batch,
    Cancel,
    Cancellation,
    Failed,
    Failure,
    NewTask,
    Registration,
    Released,
    Report,
    Submission,
    Success,
    TaskSelection,
    Why,
)
from dtm.storage.receipt import Assigned, Cancelled, Ended, Refused, Resolved, Stopped, Verdict
from tests.storage.stage import BOOM, FAILED, HOPELESS, NOON, OK, SECOND, UNBEGUN, Stage, report

ADD = NewTask("add", "1")
STOPPED = Failed(Failure("Cancelled", "asked to stop"))


def cancel(stage: Stage, *ids: int) -> list[str | None]:
    """Cancel tasks, and give their states."""
    (answer,) = stage.apply(Batch(cancellations=[Cancellation(ids)])).cancellations
    assert isinstance(answer, Cancelled), answer
    return answer.states


def order(stage: Stage, limit: int = 100, **selection: object) -> Resolved:
    """Carry out an operator's command."""
    command = Cancel(TaskSelection(**selection), limit)  # type: ignore[arg-type]
    (answer,) = stage.apply(Batch(commands=[command])).commands
    assert isinstance(answer, Resolved), answer
    return answer


# --- what waits ------------------------------------------------------------------------------------------------


def test_what_waits_ends(stage: Stage) -> None:
    """Pending or scheduled: it is over, at once, and whoever waits for it hears so."""
    stage.submit(ADD, NewTask("add", "1", delay=SECOND))
    stage.wait(0.5)
    receipt = stage.apply(Batch(cancellations=[Cancellation((1, 2))]))
    task = stage.task(1)

    assert receipt.cancellations == [Cancelled(["cancelled", "cancelled"])]
    assert receipt.ended == [Ended(1, "add", State.CANCELLED), Ended(2, "add", State.CANCELLED)]
    assert receipt.stopped == []
    assert (task.state, task.finished_at, task.cancel_requested_at) == ("cancelled", stage.now, stage.now)
    stage.wait(5)
    assert stage.give(stage.join().client_id) == []


def test_the_answer_names_every_state_in_order(stage: Stage) -> None:
    """Of ids that stand there twice, of tasks that have ended, and of those that do not exist."""
    done, dead, _ = stage.start(ADD, ADD, ADD)
    stage.apply(Batch(reports=[report(done, OK), report(dead, HOPELESS)]))
    stage.submit(ADD)

    assert cancel(stage, 99, 4, 3, 4, 2, 1) == [None, "cancelled", "assigned", "cancelled", "dead", "completed"]
    assert cancel(stage, 4) == ["cancelled"]
    assert cancel(stage) == []
    assert stage.states(1, 2, 3, 4) == ["completed", "dead", "assigned", "cancelled"]


def test_two_cancellations_of_one_task_are_one(stage: Stage) -> None:
    """In one transaction as well."""
    stage.submit(ADD)
    receipt = stage.apply(Batch(cancellations=[Cancellation((1,)), Cancellation((1,))]))

    assert receipt.cancellations == [Cancelled(["cancelled"])] * 2
    assert len(receipt.ended) == 1


# --- what runs -------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(stage: Stage) -> Assigned:
    """A running task whose client was asked to stop."""
    (assigned,) = stage.start(ADD)
    receipt = stage.apply(Batch(cancellations=[Cancellation((1,))]))
    assert receipt.cancellations == [Cancelled(["assigned"])]
    assert receipt.stopped == [Stopped(assigned.client_id, assigned.assignment_id, 1, 0, "cancelled")]
    assert stage.task(1).cancel_requested_at == NOON
    return assigned


def test_a_racing_success_wins(stage: Stage, asked: Assigned) -> None:
    """The work is done, and its value is kept."""
    assert stage.report(asked, OK) == Verdict(accepted=True, state="completed")
    assert stage.task(1).result == OK.value


@pytest.mark.parametrize("outcome", [STOPPED, FAILED, HOPELESS, UNBEGUN, Released(delay=SECOND), Failed(BOOM, after=5)])
def test_any_other_end_is_the_tasks(stage: Stage, asked: Assigned, outcome: Failed | Released) -> None:
    """No other try and no dead letter; the same word again is answered as before."""
    receipt = stage.apply(Batch(reports=[report(asked, outcome)]))
    again = stage.report(asked, outcome)

    assert receipt.reports == [again] == [Verdict(accepted=True, state="cancelled")]
    assert receipt.ended == [Ended(1, "add", State.CANCELLED)]
    assert (stage.task(1).retry_count, stage.task(1).finished_at) == (0, NOON)
    assert stage.sql("SELECT * FROM dead_letters") == []
    assert stage.audit() == []


@pytest.mark.parametrize("why", [Why.SILENT, Why.CONNECTION_LOST, Why.GOODBYE, Why.DRAINED])
def test_a_client_that_goes_ends_it_too(stage: Stage, asked: Assigned, why: Why) -> None:
    """Nobody runs it again."""
    receipt = stage.leave(asked.client_id, why)

    assert receipt.ended == [Ended(1, "add", State.CANCELLED)]
    assert stage.task(1).state == "cancelled"


def test_a_timeout_ends_it_too(stage: Stage) -> None:
    """If its client does not stop."""
    (assigned,) = stage.start(NewTask("add", "1", timeout=SECOND))
    cancel(stage, 1)
    stage.wait(1)
    receipt = stage.apply(Batch())

    assert receipt.ended == [Ended(1, "add", State.CANCELLED)]
    assert stage.report(assigned, OK) == Verdict(accepted=False, state="cancelled")
    assert stage.sql("SELECT outcome FROM assignments") == [("cancelled",)]


def test_the_attempts_outcome_says_that_it_stopped(stage: Stage, asked: Assigned) -> None:
    """Unless it was never begun."""
    stage.report(asked, STOPPED)

    assert stage.sql("SELECT outcome FROM assignments") == [("cancelled",)]


def test_a_client_that_comes_back_is_asked_again(stage: Stage, asked: Assigned) -> None:
    """The first time may not have reached it; what was not to be stopped goes on."""
    stage.submit(ADD)
    (other,) = stage.give(asked.client_id)
    held = (asked.assignment_id, other.assignment_id)
    receipt = stage.apply(Batch(registrations=[Registration("w1", "10.0.0.7:5000", ("add",), 10, held)]))

    assert receipt.stopped == [Stopped(2, asked.assignment_id, 1, 0, "cancelled")]


def test_a_result_in_the_same_transaction_comes_first(stage: Stage) -> None:
    """The state in the answer is the one after all of it."""
    done, failed = stage.start(ADD, ADD)
    receipt = stage.apply(
        Batch(reports=[report(done, OK), report(failed, FAILED)], cancellations=[Cancellation((1, 2))])
    )

    assert receipt.cancellations == [Cancelled(["completed", "cancelled"])]
    assert stage.states(1, 2) == ["completed", "cancelled"]


def test_one_that_cannot_be_done_does_not_hold_up_others(stage: Stage) -> None:
    """A submission that the store refuses, in the same transaction."""
    stage.submit(ADD)
    bad = Submission((NewTask("a\0b", "1"),))
    receipt = stage.apply(Batch(cancellations=[Cancellation((1,))], submissions=[bad]))

    assert receipt.cancellations == [Cancelled(["cancelled"])]
    assert isinstance(receipt.submissions[0], Refused)


# --- an operator's command -------------------------------------------------------------------------------------


def test_an_operator_cancels_by_what_tasks_are(stage: Stage) -> None:
    """Kind, state, age and number add up; what has ended or was asked already is none of them."""
    stage.start(ADD)
    stage.submit(NewTask("mul", "1"), NewTask("mul", "1", delay=100 * SECOND))
    stage.wait(10)
    stage.submit(NewTask("mul", "1"), ADD)

    assert order(stage, kind="mul", created_before=NOON + SECOND) == Resolved(2, 0)
    assert stage.states(2, 3, 4) == ["cancelled", "cancelled", "pending"]
    assert order(stage, state="assigned") == Resolved(1, 0)
    assert order(stage, state="assigned") == Resolved(0, 0)
    assert order(stage, everything=True, through=4) == Resolved(1, 0)
    assert order(stage, ids=(1, 2, 5, 99)) == Resolved(1, 0)
    assert stage.states(1, 2, 3, 4, 5) == ["assigned", "cancelled", "cancelled", "cancelled", "cancelled"]


def test_an_empty_selection_means_nothing(stage: Stage) -> None:
    """A slip does not cancel everything."""
    stage.submit(ADD)

    assert order(stage) == order(stage, through=5) == Resolved(0, 0)


def test_an_operators_command_is_carried_out_in_parts(stage: Stage) -> None:
    """No more than its limit at once, and it says whether that was all."""
    stage.start(*[ADD] * 3)
    stage.submit(*[ADD] * 3, *[NewTask("add", "1", delay=SECOND)] * 3)
    answers = [order(stage, limit=4, everything=True) for _ in range(4)]

    assert [(answer.done, answer.left) for answer in answers] == [(4, 1), (4, 1), (1, 0), (0, 0)]


def test_what_an_operator_cancels_is_asked_to_stop_as_well(stage: Stage) -> None:
    """The same road as a submitter's word."""
    (assigned,) = stage.start(ADD)
    receipt = stage.apply(Batch(commands=[Cancel(TaskSelection(everything=True), 5)]))

    assert receipt.stopped == [Stopped(assigned.client_id, assigned.assignment_id, 1, 0, "cancelled")]
    assert stage.apply(Batch(reports=[Report(assigned.client_id, 1, assigned.assignment_id, Success("1"))])).reports
    assert stage.audit() == []
