"""Retries as a task's own policy and its worker have them: judged here, whoever runs the task."""

from __future__ import annotations

import json

import pytest

from dtm.storage.batch import Batch, Failed, Failure, NewTask, Released, Why
from dtm.storage.receipt import Retried, Snoozed, Verdict
from tests.storage.stage import BACKOFF, BOOM, FAILED, NOON, OK, SECOND, Stage, report


def add(**policy: object) -> NewTask:
    """A task with a policy."""
    return NewTask("add", "1", retry=json.dumps(policy))


RESET = Failed(Failure("ConnectionResetError", "reset"), bases=("ConnectionError", "OSError"))

JUDGED: dict[str, tuple[dict[str, object], Failed, str]] = {
    "its type is named": ({"retry_for": ["ConnectionResetError"]}, RESET, "scheduled"),
    "a base is named": ({"retry_for": ["OSError"]}, RESET, "scheduled"),
    "others are named": ({"retry_for": ["KeyError"]}, RESET, "dead"),
    "not for a base": ({"no_retry_for": ["OSError"]}, RESET, "dead"),
    "not for others": ({"no_retry_for": ["KeyError"]}, RESET, "scheduled"),
    "the worker says no": ({"retry_for": ["ValueError"]}, Failed(BOOM, may_retry=False), "dead"),
    "the worker says when": ({"retry_for": ["KeyError"]}, Failed(BOOM, after=SECOND), "scheduled"),
    "the worker says no and when": ({}, Failed(BOOM, may_retry=False, after=SECOND), "dead"),
}


@pytest.mark.parametrize(("policy", "outcome", "state"), JUDGED.values(), ids=JUDGED.keys())
def test_the_policy_says_which_failures_are_tried_again(
    stage: Stage, policy: dict[str, object], outcome: Failed, state: str
) -> None:
    """By the type's name and those of its bases; the worker's own word counts more."""
    (assigned,) = stage.start(add(**policy))

    assert stage.report(assigned, outcome) == Verdict(accepted=True, state=state)
    assert stage.task(1).retry_count == 1


def test_a_failure_that_the_policy_gives_up_is_a_rejection(stage: Stage) -> None:
    """The dead letter says so, and not that the tries were used up."""
    (assigned,) = stage.start(add(no_retry_for=["ValueError"]))
    stage.report(assigned, FAILED)

    assert stage.sql("SELECT reason FROM dead_letters") == [("rejected",)]
    assert [line["reason"] for line in stage.audit()] == ["rejected"]


def test_the_policy_says_how_long_to_wait(stage: Stage) -> None:
    """It is kept with the task, and asked at each failure."""
    (assigned,) = stage.start(add(delay=2.5))
    waits = []
    while stage.report(assigned, FAILED).state == "scheduled":
        due_at = stage.store.next_due_at
        assert due_at is not None
        waits.append(due_at - stage.now)
        stage.now = due_at
        (assigned,) = stage.give(assigned.client_id)

    assert waits == [2.5 * SECOND, 5 * SECOND]
    assert json.loads(stage.task(1).retry or "") == {"delay": 2.5}


def test_a_worker_may_say_when_to_try_again(stage: Stage) -> None:
    """Whatever the policy waits; a try is spent."""
    (assigned,) = stage.start(add(delay=2.5))
    receipt = stage.apply(Batch(reports=[report(assigned, Failed(BOOM, after=60 * SECOND))]))

    assert receipt.retried == [Retried(1, "add", 1, 1, "failed", "ValueError: boom", NOON + 60 * SECOND)]
    assert stage.task(1).run_at == NOON + 60 * SECOND


def test_a_death_is_tried_again_whatever_the_policy(stage: Stage) -> None:
    """It says nothing of the task."""
    (assigned,) = stage.start(add(retry_for=["KeyError"]))
    stage.leave(assigned.client_id, Why.SILENT)

    assert (stage.task(1).state, stage.task(1).retry_count) == ("pending", 1)


def test_a_snoozed_task_waits_without_blame(stage: Stage) -> None:
    """As often as it likes: no try is spent."""
    (assigned,) = stage.start(NewTask("add", "1", max_retries=1))
    for _ in range(3):
        receipt = stage.apply(Batch(reports=[report(assigned, Released(delay=600 * SECOND))]))
        assert receipt.reports == [Verdict(accepted=True, state="scheduled")]
        assert receipt.snoozed == [Snoozed(1, 0, stage.now + 600 * SECOND)]
        assert stage.store.next_due_at == stage.now + 600 * SECOND
        stage.wait(599)
        assert stage.give(assigned.client_id) == []
        stage.wait(1)
        (assigned,) = stage.give(assigned.client_id)

    assert stage.report(assigned, OK).state == "completed"
    assert stage.task(1).retry_count == 0
    assert stage.sql("SELECT outcome FROM assignments") == [*[("released",)] * 3, ("completed",)]


def test_a_snooze_whose_answer_was_lost_is_counted_once(stage: Stage) -> None:
    """The same word again is answered as before."""
    (assigned,) = stage.start()
    first, again = (stage.report(assigned, Released(delay=BACKOFF)) for _ in range(2))

    assert first == again == Verdict(accepted=True, state="scheduled")
