"""The end of an attempt, one floor below the reports: a wrong picture of it changes nothing and stops the program."""

from __future__ import annotations

import pytest

from dtm.storage.attempts import end
from dtm.storage.batch import NewTask, Success, Why
from dtm.storage.errors import StoreFailed
from dtm.storage.outcomes import Attempt, Outcome
from dtm.storage.prepared import Prepared
from dtm.storage.transaction import Transaction
from tests.storage.stage import FAILED, HOPELESS, OK, UNBEGUN, Stage

ADD = NewTask("add", "1")

LONG_VALUE = Success(f'"{"x" * 5_000}"')

OUTCOMES: dict[str, Outcome] = {
    "success": OK,
    "long success": LONG_VALUE,
    "failure": FAILED,
    "hopeless": HOPELESS,
    "release": UNBEGUN,
}

every_outcome = pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES.keys())


def end_now(stage: Stage, attempt: Attempt, outcome: Outcome) -> None:
    """End an attempt in a transaction of its own."""
    connection = stage.store._connection
    with connection.begin():
        end(
            Transaction(Prepared(connection), stage.store._sequences, stage.store._policy, stage.now),
            [(attempt, outcome)],
        )


@every_outcome
def test_an_attempt_at_one_task_does_not_end_another(stage: Stage, outcome: Outcome) -> None:
    """Both are live; task and assignment do not belong together."""
    first, second = stage.start(ADD, ADD)
    crossed = Attempt(second.assignment_id, first.task_id, first.client_id, "add", retry_count=0, max_retries=3)

    with pytest.raises(StoreFailed, match="wanted to change 1 rows, changed 0"):
        end_now(stage, crossed, outcome)
    assert stage.states(1, 2) == ["assigned", "assigned"]


@every_outcome
def test_an_attempt_that_has_ended_does_not_end_again(stage: Stage, outcome: Outcome) -> None:
    """The task is with somebody else by now."""
    (old,) = stage.start(ADD)
    stage.leave(old.client_id, Why.GOODBYE)
    stage.give(stage.join("w2").client_id)
    again = Attempt(old.assignment_id, old.task_id, old.client_id, "add", retry_count=0, max_retries=3)

    with pytest.raises(StoreFailed, match="wanted to change 1 rows, changed 0"):
        end_now(stage, again, outcome)
    assert stage.task(1).assignment_id == 2


@every_outcome
def test_an_attempt_that_does_not_exist_does_not_end(stage: Stage, outcome: Outcome) -> None:
    """Nor does its task change."""
    (assigned,) = stage.start(ADD)
    unknown = Attempt(99, assigned.task_id, assigned.client_id, "add", retry_count=0, max_retries=3)

    with pytest.raises(StoreFailed):
        end_now(stage, unknown, outcome)
    assert stage.states(1) == ["assigned"]
