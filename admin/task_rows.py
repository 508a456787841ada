"""Tasks as they stand, a line each, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

from dtm.core.lifecycle import State
from dtm.storage.view import TaskRow

from .clock import exact, seconds, with_age
from .documents import Document, embedded
from .gateway import reading
from .place import Place
from .tables import table
from .wording import shortened


@dataclass(frozen=True, slots=True)
class Found:
    """The newest tasks that match, and whether there are older ones."""

    tasks: list[TaskRow]
    has_more: bool


def read(place: Place, *, state: str | None, kind: str | None, limit: int) -> Found:
    """Read the newest tasks that match."""
    with reading(place) as reader:
        tasks = reader.newest_tasks(state=state, kind=kind, limit=limit + 1)
    return Found(tasks[:limit], len(tasks) > limit)


def next_try_at(task: TaskRow) -> int | None:
    """Say when a task that waits for its time will be tried; None if it does not."""
    # The others keep what they once waited for.
    return task.run_at if task.state == State.SCHEDULED else None


def progress(task: TaskRow) -> str | None:
    """Say how far a task has come, and whether it is asked to stop; None if there is nothing to say."""
    words = []
    if task.state == State.ASSIGNED and task.cancel_requested_at is not None:
        words.append("asked to stop")
    if task.progress is not None and task.progress.fraction is not None:
        words.append(f"{task.progress.fraction:.0%}")
    if task.progress is not None and task.progress.note:
        words.append(task.progress.note)
    return ", ".join(words) or None


def text(tasks: Sequence[TaskRow], now: int) -> str:
    """Lay out tasks, a line each."""
    rows = [
        (
            task.id,
            shortened(task.kind),
            task.state,
            task.priority,
            task.retry_count,
            with_age(task.created_at, now),
            with_age(next_try_at(task), now),
            shortened(progress(task)),
            shortened(None if task.failure is None else task.failure.summary),
            shortened(task.payload),
        )
        for task in tasks
    ]
    headers = ["task", "kind", "state", "priority", "retries", "created", "next try", "progress", "error", "payload"]
    return table(headers, rows, numbers=["task", "priority", "retries"])


def document(task: TaskRow) -> Document:
    """Give a task for programs."""
    return {
        "id": task.id,
        "kind": task.kind,
        "state": task.state,
        "priority": task.priority,
        "key": task.key,
        "retry_count": task.retry_count,
        "max_retries": task.max_retries,
        "timeout_s": seconds(task.timeout),
        "assignment": task.assignment_id,
        "created_at": exact(task.created_at),
        "expires_at": exact(task.expires_at),
        "deadline_at": exact(task.deadline_at),
        "cancel_requested_at": exact(task.cancel_requested_at),
        "unique": task.unique_key,
        "retry": embedded(task.retry),
        "progress": None if task.progress is None else structs.asdict(task.progress),
        "run_at": exact(task.run_at),
        "next_try_at": exact(next_try_at(task)),
        "last_retry_at": exact(task.last_retry_at),
        "finished_at": exact(task.finished_at),
        "payload": embedded(task.payload),
        "result": embedded(task.result),
        "error": None if task.failure is None else structs.asdict(task.failure),
    }
