"""What those who follow a task hear of it, between its submission and its end.

Knows no connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import UNSET

from dtm.core.lifecycle import State
from dtm.protocol.messages import TaskUpdate
from dtm.storage.batch import Progress
from dtm.storage.receipt import Progressed, Receipt


def said(progressed: Iterable[Progressed]) -> Iterator[TaskUpdate]:
    """Tell what running tasks have said."""
    for task in progressed:
        yield _running(task.task_id, task.retry_count, task.progress, is_to_stop=task.cancel_requested)


def moved(receipt: Receipt) -> Iterator[TaskUpdate]:
    """Tell which tasks are to stop, wait again or were given out; the last word on a task is how it stands."""
    for stopped in receipt.stopped:
        if stopped.reason == "cancelled":
            yield _running(stopped.task_id, stopped.retry_count, stopped.progress, is_to_stop=True)
    for retried in receipt.retried:
        state = State.PENDING if retried.run_at is None else State.SCHEDULED
        yield TaskUpdate(retried.task_id, state, retried.retry_count, next_run_at=_seconds(retried.run_at))
    for snoozed in receipt.snoozed:
        yield TaskUpdate(snoozed.task_id, State.SCHEDULED, snoozed.retry_count, next_run_at=_seconds(snoozed.run_at))
    for assigned in receipt.assigned:
        yield TaskUpdate(assigned.task_id, State.ASSIGNED, assigned.retry_count)


def _running(task_id: int, retry_count: int, progress: Progress, *, is_to_stop: bool) -> TaskUpdate:
    requested = True if is_to_stop else UNSET
    return TaskUpdate(
        task_id, State.ASSIGNED, retry_count, progress.fraction, progress.note, cancel_requested=requested
    )


def _seconds(at: int | None) -> float | None:
    return None if at is None else at / 1_000_000
