"""What comes out of one transaction: plain values, true because it is committed.

Knows no wire and no SQL. Instants and durations are microseconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from dtm.core.lifecycle import State
from dtm.storage.batch import Failure, Progress, Why


class Registered(Struct, frozen=True):
    """The client's number, and what became of the assignments it wished to resume.

    `resumed` holds pairs of assignment and task; `earlier` the numbers that the same client had on other connections.
    """

    client_id: int
    resumed: tuple[tuple[int, int], ...] = ()
    lost: tuple[int, ...] = ()
    earlier: tuple[int, ...] = ()


class Submitted(Struct, frozen=True):
    """The tasks' ids in their order, and those among them that their keys already had."""

    ids: list[int]
    duplicates: list[int]


class Cause(StrEnum):
    """Why an item was left out."""

    CONTENT = "content"
    KEY_CONFLICT = "key conflict"
    BUSY = "busy"


class Refused(Struct, frozen=True):
    """An item that was left out, and why."""

    reason: str
    cause: Cause = Cause.CONTENT


class Verdict(Struct, frozen=True, gc=False):
    """Whether a report counted, and the task's state now (None if there is no such task)."""

    accepted: bool
    state: str | None


class Resolved(Struct, frozen=True):
    """How many dead letters or tasks a command settled, and how many of its selection are left.

    Of tasks to be cancelled `left` is only 0 or 1: to count them would hold up everybody else. A pruning counts the
    tasks that it took out.
    """

    done: int
    left: int


class Cancelled(Struct, frozen=True):
    """Where the tasks of a cancellation stand now, in their order; None where there is none.

    An assigned one is asked to stop.
    """

    states: list[str | None]


class Assigned(Struct, frozen=True, gc=False):
    """A task that a client is to run now."""

    client_id: int
    assignment_id: int
    task_id: int
    kind: str
    payload: str
    retry_count: int
    timeout: int | None


class Ended(Struct, frozen=True, gc=False):
    """A task that has reached its end: with a value (JSON text) or a failure."""

    task_id: int
    kind: str
    state: State
    value: str | None = None
    failure: Failure | None = None


class Retried(Struct, frozen=True, gc=False):
    """A task whose attempt was lost and that will run again, at `run_at` or at once."""

    task_id: int
    kind: str
    client_id: int
    retry_count: int
    reason: str
    error: str
    run_at: int | None


class Snoozed(Struct, frozen=True, gc=False):
    """A task that its attempt gave back, to be given out again at `run_at`."""

    task_id: int
    retry_count: int
    run_at: int


class Stopped(Struct, frozen=True, gc=False):
    """An attempt that its client is to end: for a cancellation it still counts, for a timeout it is over."""

    client_id: int
    assignment_id: int
    task_id: int
    retry_count: int
    reason: Literal["cancelled", "timeout"]
    progress: Progress = Progress()


class Progressed(Struct, frozen=True, gc=False):
    """A running task that has come so far, and whether it was asked to stop."""

    task_id: int
    retry_count: int
    progress: Progress
    cancel_requested: bool = False


class Left(Struct, frozen=True):
    """A client that is gone, and how many tasks it left behind."""

    client_id: int
    name: str
    why: Why
    tasks: int


class Receipt(Struct):
    """What one transaction has done; each list answers the batch's list of the same name, in its order."""

    registrations: list[Registered | Refused] = []
    reports: list[Verdict | Refused] = []
    submissions: list[Submitted | Refused] = []
    commands: list[Resolved | Refused] = []
    cancellations: list[Cancelled | Refused] = []
    prunings: list[Resolved | Refused] = []
    assigned: list[Assigned] = []
    ended: list[Ended] = []
    retried: list[Retried] = []
    snoozed: list[Snoozed] = []
    stopped: list[Stopped] = []
    progressed: list[Progressed] = []
    left: list[Left] = []
    audited: bool = False
    next_due_at: int | None = None
    may_have_more: bool = False
