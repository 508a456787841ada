"""Everything that happened to one task, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import structs

from dtm.core.escapes import escaped
from dtm.storage.batch import Failure
from dtm.storage.view import AttemptRow, DeadLetterRow, TaskHistory, TaskRow

from . import letters, task_rows
from .clock import exact, plain, seconds, span, with_age
from .documents import Document
from .errors import NotFound
from .gateway import reading
from .place import Place
from .tables import facts, table
from .wording import indented, shortened


def read(place: Place, task_id: int) -> TaskHistory:
    """Read everything about one task.

    Raises:
        NotFound: there is no such task, or not any more.
    """
    with reading(place) as reader:
        history = reader.history(task_id)
        if history is None:
            raise NotFound(_absence(place, task_id, reader.deaths(task_id)))
        return history


def text(history: TaskHistory, now: int) -> str:
    """Write a task's history for people."""
    parts = [facts(list(_facts(history.task, now)))]
    if history.attempts:
        parts.append(_attempts(history.attempts, now))
        parts.extend(_failures(history.attempts))
    if history.dead_letters:
        parts.append(letters.history_text(history.dead_letters, now))
    return "\n\n".join(parts)


def document(history: TaskHistory) -> Document:
    """Give a task's history for programs."""
    return {
        **task_rows.document(history.task),
        "attempts": [_attempt(attempt) for attempt in history.attempts],
        "dead_letters": [letters.history_document(letter) for letter in history.dead_letters],
    }


def _absence(place: Place, task_id: int, deaths: Sequence[DeadLetterRow]) -> str:
    for death in deaths:
        if death.resolution == "cleared" and death.resolved_at is not None:
            return (
                f"task {task_id} of kind {shortened(death.kind)} is not there any more: it was cleared at "
                f"{plain(death.resolved_at)}, dead of {shortened(death.error)}"
            )
    return f"wanted task {task_id}, found no such task in {place}; 'dtm-admin tasks list' names some"


def _facts(task: TaskRow, now: int) -> Iterator[tuple[str, str]]:
    yield "Task", str(task.id)
    yield "Kind", escaped(task.kind)
    yield "State", task.state
    yield "Priority", str(task.priority)
    yield "Key", "-" if task.key is None else escaped(task.key)
    yield "Retries", f"{task.retry_count} of {task.max_retries}"
    yield "Retry policy", "the server's" if task.retry is None else escaped(task.retry)
    yield "Timeout", "-" if task.timeout is None else span(task.timeout)
    yield "Unique", "-" if task.unique_key is None else escaped(task.unique_key)
    yield "Created", with_age(task.created_at, now)
    yield "Next try", with_age(task_rows.next_try_at(task), now)
    yield "Expires", with_age(task.expires_at, now)
    yield "Deadline", with_age(task.deadline_at, now)
    yield "Cancel asked", with_age(task.cancel_requested_at, now)
    yield "Progress", escaped(task_rows.progress(task) or "-")
    yield "Last retry", with_age(task.last_retry_at, now)
    yield "Finished", with_age(task.finished_at, now)
    yield "Payload", escaped(task.payload)
    yield "Result", "-" if task.result is None else escaped(task.result)
    yield "Last error", "-" if task.failure is None else escaped(task.failure.summary)


def _attempts(attempts: Sequence[AttemptRow], now: int) -> str:
    lines = [
        (
            attempt.assignment_id,
            shortened(attempt.client),
            escaped(attempt.address),
            with_age(attempt.assigned_at, now),
            span((attempt.finished_at or now) - attempt.assigned_at),
            attempt.outcome or "running",
            shortened(None if attempt.failure is None else attempt.failure.summary),
        )
        for attempt in attempts
    ]
    headers = ["assignment", "client", "address", "started", "duration", "outcome", "error"]
    return table(headers, lines, numbers=["assignment", "duration"])


def _failures(attempts: Sequence[AttemptRow]) -> Iterator[str]:
    """Write out what the table had no room for."""
    for attempt in attempts:
        if attempt.failure is not None:
            yield f"Assignment {attempt.assignment_id}: {_in_full(attempt.failure)}"


def _in_full(failure: Failure) -> str:
    summary = escaped(failure.summary)
    return f"{summary}\n{indented(failure.traceback)}" if failure.traceback else summary


def _attempt(attempt: AttemptRow) -> Document:
    end = attempt.finished_at
    return {
        "assignment": attempt.assignment_id,
        "client": attempt.client,
        "address": attempt.address,
        "assigned_at": exact(attempt.assigned_at),
        "finished_at": exact(end),
        "duration_s": None if end is None else seconds(end - attempt.assigned_at),
        "outcome": attempt.outcome,
        "error": None if attempt.failure is None else structs.asdict(attempt.failure),
    }
