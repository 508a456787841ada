"""The store as an onlooker sees it: its tasks, their attempts, and what became of the dead ones."""

from __future__ import annotations

from msgspec import Struct

from dtm.storage.batch import Failure, Progress


class TaskRow(Struct, frozen=True):
    """A task as it stands; instants are UTC microseconds, `payload`, `result` and `retry` JSON text."""

    id: int
    kind: str
    payload: str
    priority: int
    state: str
    key: str | None
    retry_count: int
    max_retries: int
    timeout: int | None
    created_at: int
    run_at: int | None
    last_retry_at: int | None
    finished_at: int | None
    result: str | None
    failure: Failure | None
    assignment_id: int | None
    retry: str | None
    unique_key: str | None
    expires_at: int | None
    deadline_at: int | None
    cancel_requested_at: int | None
    progress: Progress | None


class AttemptRow(Struct, frozen=True):
    """One attempt of a task: who, when, and how it went (None: it still runs)."""

    assignment_id: int
    client: str
    address: str
    assigned_at: int
    finished_at: int | None
    outcome: str | None
    failure: Failure | None


class DeadLetterRow(Struct, frozen=True):
    """One time a task died, and what was done about it."""

    task_id: int
    kind: str
    reason: str
    error: str
    died_at: int
    resolved_at: int | None
    resolution: str | None
    payload: str | None
    retry_count: int | None
    id: int


class TaskHistory(Struct, frozen=True):
    """A task with everything that happened to it."""

    task: TaskRow
    attempts: list[AttemptRow]
    dead_letters: list[DeadLetterRow]


class Space(Struct, frozen=True):
    """Bytes that the database takes, and how many of them are free pages."""

    taken: int
    free: int

    @property
    def live(self) -> int:
        """Bytes that are left once the free pages are given back."""
        return self.taken - self.free


class AuditLine(Struct, frozen=True):
    """One line of the dead-letter log, as the database has it."""

    seq: int
    line: str
