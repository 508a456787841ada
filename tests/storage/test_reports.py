"""What clients say of their assignments: counted once, or stale; and what a failure costs."""

from __future__ import annotations

import pytest

from dtm.core.lifecycle import State
from dtm.storage.batch import (
    MAX_SUMMARY,
    Batch,
    Clear,
    Failed,
    Failure,
    NewTask,
    Released,
    Report,
    Reprocess,
    Selection,
    Success,
    Why,
)
from dtm.storage.receipt import Ended, Retried, Verdict
from tests.storage.stage import BACKOFF, BOOM, FAILED, HOPELESS, NOON, OK, SECOND, UNBEGUN, Stage, report

ADD = NewTask("add", "1")
EVERYTHING = Selection(everything=True)
BOOM_JSON = '{"type":"ValueError","message":"boom","traceback":"Traceback…"}'

Outcome = Success | Failed | Released

STALE = {state: Verdict(accepted=False, state=state) for state in (*State, None)}


# --- accepted --------------------------------------------------------------------------------------------------


def test_a_success_completes_its_task(stage: Stage) -> None:
    """The value is kept to the letter, and the attempt is closed."""
    (assigned,) = stage.start(ADD)
    stage.wait(5)
    value = '{"sum":  3, "é": "\\u0000"}'
    receipt = stage.apply(Batch(reports=[report(assigned, Success(value))]))
    task = stage.task(1)

    assert receipt.reports == [Verdict(accepted=True, state="completed")]
    assert receipt.ended == [Ended(1, "add", State.COMPLETED, value=value)]
    assert (task.state, task.result, task.finished_at, task.failure) == (
        "completed",
        value,
        NOON + 5 * SECOND,
        None,
    )
    assert (task.assignment_id, task.retry_count) == (None, 0)
    assert stage.sql("SELECT finished_at, outcome, error FROM assignments") == [(NOON + 5 * SECOND, "completed", None)]


def test_a_failure_costs_a_try_and_a_wait(stage: Stage) -> None:
    """The task is scheduled, a little later each time, and remembers why."""
    (assigned,) = stage.start(ADD)
    receipt = stage.apply(Batch(reports=[report(assigned, FAILED)]))
    task = stage.task(1)

    assert receipt.reports == [Verdict(accepted=True, state="scheduled")]
    assert receipt.retried == [Retried(1, "add", 1, 1, "failed", "ValueError: boom", NOON + BACKOFF)]
    assert receipt.next_due_at == NOON + BACKOFF
    assert (task.state, task.retry_count, task.run_at, task.last_retry_at) == (
        "scheduled",
        1,
        NOON + BACKOFF,
        NOON,
    )
    assert task.failure == BOOM
    assert stage.sql("SELECT outcome, error FROM assignments") == [("failed", BOOM_JSON)]


def test_each_failure_waits_longer_and_the_third_is_the_end(stage: Stage) -> None:
    """Told the number of failures, the server's rule says how long."""
    (assigned,) = stage.start(ADD)
    waits = []
    while stage.report(assigned, FAILED).state == "scheduled":
        due_at = stage.store.next_due_at
        assert due_at is not None
        waits.append(due_at - stage.now)
        stage.now = due_at
        (assigned,) = stage.give(assigned.client_id)

    assert waits == [BACKOFF, 2 * BACKOFF]
    assert (stage.task(1).state, stage.task(1).retry_count) == ("dead", 3)
    assert assigned.retry_count == 2


def test_a_success_after_failures_is_a_success(stage: Stage) -> None:
    """What went wrong before is in the history, not in the task."""
    (assigned,) = stage.start(ADD)
    stage.report(assigned, FAILED)
    stage.now = NOON + BACKOFF
    (again,) = stage.give(assigned.client_id)
    stage.report(again, OK)
    task = stage.task(1)

    assert (task.state, task.retry_count, task.failure, task.result) == ("completed", 1, None, "3")
    assert stage.sql("SELECT outcome FROM assignments ORDER BY id") == [("failed",), ("completed",)]


def test_a_release_costs_nothing(stage: Stage) -> None:
    """The task is pending at once, in its old place in the queue."""
    first, _ = stage.start(ADD, ADD)
    stage.submit(ADD)
    verdict = stage.report(first, UNBEGUN)
    task = stage.task(1)

    assert verdict == Verdict(accepted=True, state="pending")
    assert (task.state, task.retry_count, task.failure, task.last_retry_at) == ("pending", 0, None, None)
    assert [one.task_id for one in stage.give(first.client_id)] == [1, 3]
    assert stage.sql("SELECT outcome FROM assignments WHERE id = 1") == [("released",)]


def test_no_number_of_releases_kills_a_task(stage: Stage) -> None:
    """Nobody is to blame for what was never begun."""
    (assigned,) = stage.start(NewTask("add", "1", max_retries=1))
    for _ in range(5):
        stage.report(assigned, UNBEGUN)
        (assigned,) = stage.give(assigned.client_id)

    assert assigned.retry_count == 0
    assert stage.report(assigned, OK).state == "completed"


# --- dead ------------------------------------------------------------------------------------------------------


def test_a_dead_task_is_a_letter_and_a_line(stage: Stage) -> None:
    """Both tell what it was, how often it failed, who had it last, why it died and what the error was."""
    (assigned,) = stage.start(NewTask("add", '{"a": "\x1b\\n\u2028"}', max_retries=1))
    stage.wait(1)
    receipt = stage.apply(Batch(reports=[report(assigned, FAILED)]))
    (line,) = stage.audit()

    assert receipt.audited
    assert receipt.ended == [Ended(1, "add", State.DEAD, failure=BOOM)]
    assert receipt.retried == []
    assert stage.sql("SELECT task_id, kind, reason, error, died_at, resolved_at, resolution FROM dead_letters") == [
        (1, "add", "failed", "ValueError: boom", NOON + SECOND, None, None)
    ]
    assert {name: value for name, value in line.items() if name not in {"prev", "crc", "at"}} == {
        "seq": 1,
        "event": "dead",
        "task": 1,
        "kind": "add",
        "payload": '{"a": "\x1b\\n\u2028"}',
        "retry_count": 1,
        "client": "w1",
        "reason": "failed",
        "error": "ValueError: boom",
    }
    assert stage.sql("SELECT seq, at, event FROM audit") == [(1, NOON + SECOND, "dead")]


def test_a_worker_that_sees_no_hope_ends_the_task_at_once(stage: Stage) -> None:
    """However many tries are left; the reason says that it was rejected."""
    (assigned,) = stage.start(NewTask("add", "1", max_retries=9))

    assert stage.report(assigned, HOPELESS) == Verdict(accepted=True, state="dead")
    assert stage.task(1).retry_count == 1
    assert [line["reason"] for line in stage.audit()] == ["rejected"]
    assert stage.sql("SELECT reason FROM dead_letters") == [("rejected",)]


def test_several_deaths_of_a_batch_are_as_many_lines_in_order(stage: Stage) -> None:
    """Each names the one before; the next batch goes on where this one ended."""
    assigned = stage.start(*[ADD] * 5)
    stage.apply(Batch(reports=[report(one, HOPELESS) for one in (assigned[3], assigned[0], assigned[4])]))
    stage.apply(Batch(reports=[report(assigned[1], HOPELESS)]))
    stage.reopen()
    stage.apply(Batch(reports=[report(assigned[2], HOPELESS)]))

    assert [(line["seq"], line["task"]) for line in stage.audit()] == [(1, 4), (2, 1), (3, 5), (4, 2), (5, 3)]


def test_a_transaction_without_a_death_has_no_line(stage: Stage) -> None:
    """The log's keeper need not look."""
    (assigned,) = stage.start(ADD)
    receipt = stage.apply(Batch(reports=[report(assigned, FAILED)]))

    assert not receipt.audited
    assert stage.audit() == []


NASTY = ["a\0b", "\r\n", "\x1b[2J", "\u2028", "\U0001f4a3", "\\u0000", '"', "x" * 5_000, ""]


@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("outcome", ["failed", "rejected"])
def test_any_text_of_a_failure_is_kept(stage: Stage, text: str, outcome: str) -> None:
    """Whatever the error said, the attempt ends, the task keeps it whole, and the letter has the gist."""
    failure = Failure(f"T{text}", text, text)
    (assigned,) = stage.start(NewTask("add", "1", max_retries=1))
    verdict = stage.report(assigned, Failed(failure, may_retry=outcome == "failed"))
    ((gist,),) = stage.sql("SELECT error FROM dead_letters")

    assert verdict == Verdict(accepted=True, state="dead")
    assert stage.task(1).failure == failure
    assert gist == stage.audit()[0]["error"] == failure.summary
    assert len(gist) <= 2 * MAX_SUMMARY
    assert "\0" not in gist


def test_a_name_of_any_letters_dies_as_others_do(stage: Stage) -> None:
    """What a client calls itself must not keep the store from noting its end."""
    stage.submit(NewTask("add", "1", max_retries=1))
    client = stage.join("w\0\r\n\u2028").client_id
    stage.give(client)
    stage.leave(client, Why.SILENT)

    assert stage.states(1) == ["dead"]
    assert stage.audit()[0]["client"] == "w\0\r\n\u2028"


# --- again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(OK, "completed"), (FAILED, "scheduled"), (HOPELESS, "dead"), (UNBEGUN, "pending")],
    ids=["success", "failure", "hopeless", "release"],
)
def test_a_report_that_comes_again_is_accepted_again_and_counted_once(
    stage: Stage, outcome: Outcome, state: str
) -> None:
    """Its answer was lost. Nothing happens, neither in the same batch nor later nor after a restart."""
    (assigned,) = stage.start(ADD)
    both = stage.apply(Batch(reports=[report(assigned, outcome), report(assigned, outcome)]))
    before = stage.sql("SELECT * FROM tasks")
    later = stage.apply(Batch(reports=[report(assigned, outcome)]))
    stage.reopen()
    restarted = stage.apply(Batch(reports=[report(assigned, outcome)]))

    assert both.reports == [Verdict(accepted=True, state=state)] * 2
    assert later.reports == restarted.reports == [Verdict(accepted=True, state=state)]
    assert (later.ended, later.retried, later.audited) == ([], [], False)
    assert len(both.ended) + len(both.retried) <= 1
    assert stage.sql("SELECT * FROM tasks") == before


def test_a_repeated_report_hears_where_the_task_is_now(stage: Stage) -> None:
    """Not where it was when the report counted."""
    (assigned,) = stage.start(ADD)
    stage.report(assigned, FAILED)
    stage.now = NOON + BACKOFF
    stage.give(assigned.client_id)

    assert stage.report(assigned, FAILED) == Verdict(accepted=True, state="assigned")


def test_a_client_that_came_back_repeats_what_it_said_before(stage: Stage) -> None:
    """It has another number on its new connection, and still the same name."""
    (assigned,) = stage.start(ADD)
    stage.report(assigned, OK)
    stage.leave(assigned.client_id, Why.CONNECTION_LOST)
    again = stage.join(resume=[assigned.assignment_id]).client_id
    receipt = stage.apply(Batch(reports=[report(assigned, OK, client_id=again)]))

    assert receipt.reports == [Verdict(accepted=True, state="completed")]


def test_another_process_of_the_same_name_repeats_nothing(stage: Stage) -> None:
    """It did not say it before."""
    first = stage.join(instance="p1").client_id
    stage.submit(ADD)
    (assigned,) = stage.give(first)
    stage.report(assigned, OK)
    other = stage.join(instance="p2").client_id
    receipt = stage.apply(Batch(reports=[report(assigned, OK, client_id=other)]))

    assert receipt.reports == [Verdict(accepted=False, state="completed")]


def test_what_is_said_before_the_report_that_counts_repeats_nothing(stage: Stage) -> None:
    """Of two that nobody can tell apart one speaks of the other's task, and the other only later in the same batch."""
    (assigned,) = stage.start(ADD)
    twin = stage.join().client_id
    its, own = report(assigned, FAILED, client_id=twin), report(assigned, FAILED)
    receipt = stage.apply(Batch(reports=[its, own, its]))

    assert [isinstance(verdict, Verdict) and verdict.accepted for verdict in receipt.reports] == [False, True, True]


@pytest.mark.parametrize("first", [OK, FAILED, HOPELESS, UNBEGUN], ids=["ok", "failed", "hopeless", "released"])
@pytest.mark.parametrize("second", [OK, FAILED, UNBEGUN], ids=["ok", "failed", "released"])
def test_of_two_different_reports_the_first_counts(stage: Stage, first: Outcome, second: Outcome) -> None:
    """In one batch or in two; the second changes nothing and is told so."""
    (assigned,) = stage.start(ADD)
    stage.apply(Batch(reports=[report(assigned, first)]))
    before = stage.sql("SELECT * FROM tasks JOIN assignments")
    (state,) = stage.states(1)
    verdict = stage.report(assigned, second)

    assert verdict == Verdict(accepted=type(first) is type(second), state=state)
    assert stage.sql("SELECT * FROM tasks JOIN assignments") == before


def test_of_two_different_reports_in_one_batch_the_first_counts(stage: Stage) -> None:
    """A value that was accepted is not overwritten by what comes with it."""
    (assigned,) = stage.start(ADD)
    receipt = stage.apply(
        Batch(reports=[report(assigned, Success("1")), report(assigned, FAILED), report(assigned, Success("2"))])
    )

    assert receipt.reports == [
        Verdict(accepted=True, state="completed"),
        STALE[State.COMPLETED],
        Verdict(accepted=True, state="completed"),
    ]
    assert stage.task(1).result == "1"


# --- stale -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [OK, FAILED, HOPELESS, UNBEGUN], ids=["ok", "failed", "hopeless", "released"])
def test_a_report_on_an_attempt_that_was_taken_back_is_stale(stage: Stage, outcome: Outcome) -> None:
    """The client was thought dead and another has the task: the late word changes nothing."""
    (old,) = stage.start(ADD)
    stage.leave(old.client_id, Why.SILENT)
    (new,) = stage.give(stage.join("w2").client_id)
    before = stage.sql("SELECT * FROM tasks")
    verdict = stage.report(old, outcome)

    assert verdict == STALE[State.ASSIGNED]
    assert stage.sql("SELECT * FROM tasks") == before
    assert stage.report(new, OK) == Verdict(accepted=True, state="completed")
    assert stage.report(old, outcome) == STALE[State.COMPLETED]


@pytest.mark.parametrize("outcome", [OK, FAILED, HOPELESS, UNBEGUN], ids=["ok", "failed", "hopeless", "released"])
def test_a_report_by_another_client_is_stale(stage: Stage, outcome: Outcome) -> None:
    """Knowing the number is not having the task."""
    (assigned,) = stage.start(ADD)
    other = stage.join("w2").client_id
    receipt = stage.apply(Batch(reports=[report(assigned, outcome, client_id=other)]))

    assert receipt.reports == [STALE[State.ASSIGNED]]
    assert stage.report(assigned, OK) == Verdict(accepted=True, state="completed")
    assert stage.apply(Batch(reports=[report(assigned, OK, client_id=other)])).reports == [STALE[State.COMPLETED]]


def test_a_report_by_another_client_does_not_shadow_the_holders(stage: Stage) -> None:
    """In one batch, whichever comes first."""
    (assigned,) = stage.start(ADD)
    other = stage.join("w2").client_id
    receipt = stage.apply(Batch(reports=[report(assigned, FAILED, client_id=other), report(assigned, OK)]))

    assert receipt.reports == [STALE[State.COMPLETED], Verdict(accepted=True, state="completed")]


def test_a_report_on_another_task_is_stale(stage: Stage) -> None:
    """Task and assignment must belong together; the answer speaks of the task that was named."""
    first, second = stage.start(ADD, ADD)
    crossed = [
        Report(first.client_id, first.task_id, second.assignment_id, OK),
        Report(first.client_id, second.task_id, first.assignment_id, OK),
    ]
    receipt = stage.apply(Batch(reports=crossed))
    stage.report(first, OK)
    later = stage.apply(Batch(reports=crossed))

    assert receipt.reports == [STALE[State.ASSIGNED]] * 2
    assert later.reports == [STALE[State.COMPLETED], STALE[State.ASSIGNED]]


@pytest.mark.parametrize(("task_id", "state"), [(1, "assigned"), (99, None), (2**63 - 1, None)])
@pytest.mark.parametrize("assignment_id", [0, 99, 2**63 - 1])
def test_a_report_on_an_assignment_that_does_not_exist_is_stale(
    stage: Stage, task_id: int, state: str | None, assignment_id: int
) -> None:
    """With the state of the task, or none if there is no such task."""
    (assigned,) = stage.start(ADD)
    receipt = stage.apply(Batch(reports=[Report(assigned.client_id, task_id, assignment_id, OK)]))

    assert receipt.reports == [Verdict(accepted=False, state=state)]


def test_a_report_on_an_earlier_attempt_is_stale_for_good(stage: Stage) -> None:
    """A task that died, was let run again and is assigned once more does not take its old attempts' word."""
    (old,) = stage.start(NewTask("add", "1", max_retries=1))
    stage.report(old, FAILED)
    stage.settle(Reprocess(EVERYTHING, 10))
    (new,) = stage.give(old.client_id)

    assert stage.report(old, OK) == STALE[State.ASSIGNED]
    assert new.assignment_id != old.assignment_id
    assert new.retry_count == 0


def test_a_report_on_a_task_that_was_cleared_is_stale(stage: Stage) -> None:
    """It is gone, and so are its attempts."""
    (old,) = stage.start(ADD)
    stage.report(old, HOPELESS)
    stage.settle(Clear(EVERYTHING, 10))

    assert stage.report(old, HOPELESS) == STALE[None]


def test_each_report_of_a_batch_has_its_own_answer(stage: Stage) -> None:
    """In their order, good and stale, of many tasks."""
    assigned = stage.start(*[ADD] * 6)
    outcomes: list[Outcome] = [OK, FAILED, HOPELESS, UNBEGUN, OK]
    reports = [report(one, outcome) for one, outcome in zip(assigned, outcomes, strict=False)]
    reports.insert(2, Report(assigned[5].client_id, 6, 1, OK))
    verdicts = stage.apply(Batch(reports=reports)).reports

    assert verdicts == [
        Verdict(accepted=True, state="completed"),
        Verdict(accepted=True, state="scheduled"),
        STALE[State.ASSIGNED],
        Verdict(accepted=True, state="dead"),
        Verdict(accepted=True, state="pending"),
        Verdict(accepted=True, state="completed"),
    ]
