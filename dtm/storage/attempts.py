"""The end of attempts, however they end: the one place where an assigned task changes its state.

Every statement names task, assignment and state. An attempt that is not the task's current one changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import BindParameter, Subquery, Update, bindparam, insert, select, update

from dtm.core import auditline
from dtm.core.lifecycle import Event, State, next_state
from dtm.storage.batch import Failed, Failure, Released, Success
from dtm.storage.outcomes import Attempt, Died, Ending, Lost, Outcome, TimedOut, event_of, reason_of
from dtm.storage.receipt import Ended, Retried, Snoozed
from dtm.storage.schema import assignments, clients, dead_letters, is_in, tasks
from dtm.storage.sql import among, given, given_one
from dtm.storage.transaction import Transaction

_GIVEN = given("task_id", "assignment_id", "value", "run_at")
_GIVEN_ONE = given_one("task_id", "assignment_id", "value")
_NOW: BindParameter[int] = bindparam("now")


def _fenced_update(its: Subquery, **changes: Any) -> Update:
    return (
        update(tasks)
        .where(
            tasks.c.id == its.c.task_id,
            tasks.c.assignment_id == its.c.assignment_id,
            is_in(State.ASSIGNED),
        )
        .values(assignment_id=None, deadline_at=None, **changes)
    )


_ONE_MORE = {"retry_count": tasks.c.retry_count + 1, "error": _GIVEN.c.value}
_COMPLETE, _COMPLETE_ONE = (
    _fenced_update(its, state=State.COMPLETED, result=its.c.value, finished_at=_NOW, error=None)
    for its in (_GIVEN, _GIVEN_ONE)
)
# The next attempt starts anew: what the last one said of its progress is not its.
_RELEASE = _fenced_update(_GIVEN, state=State.PENDING, progress=None)
_SNOOZE = _fenced_update(_GIVEN, state=State.SCHEDULED, run_at=_GIVEN.c.run_at, progress=None)
_AGAIN = {"last_retry_at": _NOW, "progress": None, **_ONE_MORE}
_RETRY_LATER = _fenced_update(_GIVEN, state=State.SCHEDULED, run_at=_GIVEN.c.run_at, **_AGAIN)
_RETRY_NOW = _fenced_update(_GIVEN, state=State.PENDING, **_AGAIN)
_CANCEL = _fenced_update(_GIVEN, state=State.CANCELLED, finished_at=_NOW)
_GIVE_UP = _fenced_update(_GIVEN, state=State.DEAD, finished_at=_NOW, **_ONE_MORE)

_FINISH_WELL = (
    update(assignments)
    .where(among(assignments.c.id, "ids"), assignments.c.finished_at.is_(None))
    .values(finished_at=_NOW, outcome="completed")
)
_FINISHED = given("id", "outcome", "error")
_FINISH = (
    update(assignments)
    .where(assignments.c.id == _FINISHED.c.id, assignments.c.finished_at.is_(None))
    .values(finished_at=_NOW, outcome=_FINISHED.c.outcome, error=_FINISHED.c.error)
)
_LETTER = given("task_id", "kind", "reason", "error")
_INSERT_LETTERS = insert(dead_letters).from_select(
    ["task_id", "kind", "reason", "error", "died_at"], select(*_LETTER.c, _NOW)
)
_PAYLOADS = select(tasks.c.id, tasks.c.payload).where(among(tasks.c.id, "ids"))
_NAMES = select(clients.c.id, clients.c.name).where(among(clients.c.id, "ids"))


def end(tx: Transaction, ended: Sequence[tuple[Attempt, Outcome]]) -> list[Ending]:
    """End live attempts, each at most once in `ended`, and move their tasks on."""
    endings = [Ending(attempt, outcome, event_of(attempt, outcome)) for attempt, outcome in ended]
    by_event: dict[Event, list[Ending]] = {}
    for ending in endings:
        by_event.setdefault(ending.event, []).append(ending)
    _finish(tx, endings)
    for event, its_endings in by_event.items():
        _STEPS[event](tx, its_endings)
        if event in _BACK:
            _note_expiries(tx, its_endings)
        for kind, times in Counter([ending.attempt.kind for ending in its_endings]).items():
            tx.books.move(kind, State.ASSIGNED, next_state(State.ASSIGNED, event), times)
    return endings


def _finish(tx: Transaction, endings: Sequence[Ending]) -> None:
    tx.change_those(_FINISH_WELL, [ending.attempt.assignment_id for ending in endings if ending.event is Event.SUCCEED])
    tx.change(_FINISH, [_finish_row(ending) for ending in endings if ending.event is not Event.SUCCEED])


# Where the task waits again.
_BACK = {Event.RELEASE, Event.SNOOZE, Event.RETRY_LATER, Event.RETRY_NOW}


def _note_expiries(tx: Transaction, endings: Sequence[Ending]) -> None:
    for ending in endings:
        if ending.attempt.expires_at is not None:
            tx.note_expiry(ending.attempt.expires_at)


_ENDED_AS: dict[type[Outcome], str] = {
    Failed: "failed",
    Released: "released",
    Died: "died",
    TimedOut: "timed out",
}


def _finish_row(ending: Ending) -> tuple[int | str | None, ...]:
    ended_as = _ENDED_AS[type(ending.outcome)]
    if ending.event is Event.CANCEL and not isinstance(ending.outcome, Released):
        # Whatever it died of, it costs no try.
        ended_as = "cancelled"
    return (ending.attempt.assignment_id, ended_as, _failure_text(ending.outcome))


def _complete(tx: Transaction, endings: list[Ending]) -> None:
    rows = []
    for ending in endings:
        assert isinstance(ending.outcome, Success)
        attempt, value = ending.attempt, ending.outcome.value
        rows.append((attempt.task_id, attempt.assignment_id, value))
        tx.receipt.ended.append(Ended(attempt.task_id, attempt.kind, State.COMPLETED, value=value))
    tx.change_with_text(_COMPLETE, _COMPLETE_ONE, rows, column=2)
    tx.books.happened("completed", len(rows))


def _release(tx: Transaction, endings: list[Ending]) -> None:
    tx.change(_RELEASE, [(ending.attempt.task_id, ending.attempt.assignment_id) for ending in endings])
    tx.books.happened("released", len(endings))


def _snooze(tx: Transaction, endings: list[Ending]) -> None:
    rows = []
    for ending in endings:
        assert isinstance(ending.outcome, Released)
        attempt, run_at = ending.attempt, tx.now + (ending.outcome.delay or 0)
        tx.schedule(run_at)
        rows.append((attempt.task_id, attempt.assignment_id, None, run_at))
        tx.receipt.snoozed.append(Snoozed(attempt.task_id, attempt.retry_count, run_at))
    tx.change(_SNOOZE, rows)
    tx.books.happened("snoozed", len(rows))


def _cancel(tx: Transaction, endings: list[Ending]) -> None:
    tx.change(_CANCEL, [(ending.attempt.task_id, ending.attempt.assignment_id) for ending in endings])
    tx.receipt.ended.extend(Ended(ending.attempt.task_id, ending.attempt.kind, State.CANCELLED) for ending in endings)
    tx.books.happened("cancelled", len(endings))


def _retry_later(tx: Transaction, endings: list[Ending]) -> None:
    rows = []
    for ending in endings:
        run_at = tx.now + _wait(tx, ending)
        tx.schedule(run_at)
        rows.append((*_failed_row(ending), run_at))
        tx.receipt.retried.append(_retried(ending, run_at))
    tx.change(_RETRY_LATER, rows)
    tx.books.happened("retried", len(rows))


def _wait(tx: Transaction, ending: Ending) -> int:
    if isinstance(ending.outcome, Failed) and ending.outcome.after is not None:
        return ending.outcome.after
    return tx.policy.retry_delay(ending.attempt.retry_count + 1, ending.attempt.policy)


def _retry_now(tx: Transaction, endings: list[Ending]) -> None:
    tx.change(_RETRY_NOW, [_failed_row(ending) for ending in endings])
    tx.receipt.retried.extend(_retried(ending, None) for ending in endings)
    tx.books.happened("retried", len(endings))


def _give_up(tx: Transaction, endings: list[Ending]) -> None:
    tx.change(_GIVE_UP, [_failed_row(ending) for ending in endings])
    tx.change(_INSERT_LETTERS, [_letter_row(ending) for ending in endings])
    payloads = tx.texts(_PAYLOADS, {ending.attempt.task_id for ending in endings})
    names = tx.texts(_NAMES, {ending.attempt.client_id for ending in endings})
    for ending in endings:
        attempt, failure = ending.attempt, _failure(ending.outcome)
        fields = {
            "task": attempt.task_id,
            "kind": attempt.kind,
            **auditline.quote_payload(payloads[attempt.task_id]),
            "retry_count": attempt.retry_count + 1,
            "client": names[attempt.client_id],
            "reason": reason_of(ending),
            "error": failure.summary,
        }
        tx.record("dead", fields)
        tx.receipt.ended.append(Ended(attempt.task_id, attempt.kind, State.DEAD, failure=failure))
    tx.books.happened("dead", len(endings))


_STEPS = {
    Event.SUCCEED: _complete,
    Event.RELEASE: _release,
    Event.SNOOZE: _snooze,
    Event.CANCEL: _cancel,
    Event.RETRY_LATER: _retry_later,
    Event.RETRY_NOW: _retry_now,
    Event.GIVE_UP: _give_up,
}


def _failed_row(ending: Ending) -> tuple[int | str | None, ...]:
    return (ending.attempt.task_id, ending.attempt.assignment_id, _failure_text(ending.outcome))


def _letter_row(ending: Ending) -> tuple[int | str | None, ...]:
    return (ending.attempt.task_id, ending.attempt.kind, reason_of(ending), _failure(ending.outcome).summary)


def _retried(ending: Ending, run_at: int | None) -> Retried:
    attempt = ending.attempt
    return Retried(
        task_id=attempt.task_id,
        kind=attempt.kind,
        client_id=attempt.client_id,
        retry_count=attempt.retry_count + 1,
        reason=reason_of(ending),
        error=_failure(ending.outcome).summary,
        run_at=run_at,
    )


def _failure(outcome: Outcome) -> Failure:
    assert isinstance(outcome, Lost)
    return outcome.failure


def _failure_text(outcome: Outcome) -> str | None:
    if not isinstance(outcome, Lost):
        return None
    return msgspec.json.encode(outcome.failure).decode()
