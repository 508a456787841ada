"""What goes into one transaction: plain values.

Knows no wire and no SQL. Instants and durations are microseconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

from dtm.core.balance import Seat


class NewTask(Struct, frozen=True, gc=False):
    """A task as its submitter wants it; `payload` is JSON text, and so is `retry`, a `RetryPolicy`."""

    kind: str
    payload: str
    key: str | None = None
    priority: int = 0
    delay: int | None = None
    run_at: int | None = None
    max_retries: int | None = None
    timeout: int | None = None
    expires: int | None = None
    expires_at: int | None = None
    unique: str | None = None
    retry: str | None = None

    @property
    def has_terms(self) -> bool:
        """Whether it asks for more than a run."""
        return not (self.retry is None and self.unique is None and self.expires is None and self.expires_at is None)


class Submission(Struct, frozen=True):
    """Tasks that come in together, all or none."""

    tasks: tuple[NewTask, ...]


MAX_SUMMARY = 1_000


class Failure(Struct, frozen=True):
    """Why an attempt failed."""

    type: str
    message: str = ""
    traceback: str = ""

    @property
    def summary(self) -> str:
        """The gist for lists and logs, cut to a bearable length."""
        whole = f"{self.type}: {self.message}" if self.message else self.type
        # The store keeps this as it is, and no column holds a NUL.
        return whole[:MAX_SUMMARY].replace("\0", "\\0")


class Success(Struct, frozen=True, gc=False):
    """An attempt that went well; `value` is JSON text."""

    value: str


class Failed(Struct, frozen=True):
    """An attempt that failed, and whether another may go better; `after` so long, if the worker knows.

    `bases` are the names of what the failure's type is a kind of.
    """

    failure: Failure
    may_retry: bool = True
    after: int | None = None
    bases: tuple[str, ...] = ()


class Released(Struct, frozen=True):
    """An attempt that was given back, not to be given out again for `delay`."""

    delay: int | None = None


class Report(Struct, frozen=True, gc=False):
    """A client's word on one of its assignments."""

    client_id: int
    task_id: int
    assignment_id: int
    outcome: Success | Failed | Released


class Progress(Struct, frozen=True):
    """How far a task has come, in its own words; `fraction` from 0 to 1 if that is known."""

    fraction: float | None = None
    note: str = ""


class Registration(Struct, frozen=True):
    """A client that joins, with the assignments it still holds from an earlier connection.

    `instance` tells the processes of one name apart, and one that comes back from one that was started anew.
    """

    name: str
    address: str
    kinds: tuple[str, ...]
    capacity: int
    resume: tuple[int, ...] = ()
    instance: str | None = None


class Change(Struct, frozen=True):
    """A client that from now on takes other kinds or another number of tasks."""

    client_id: int
    kinds: tuple[str, ...]
    capacity: int


class Why(StrEnum):
    """How a client left."""

    GOODBYE = "goodbye"
    CAME_BACK = "came back"
    DRAINED = "drained"
    CONNECTION_LOST = "connection lost"
    SILENT = "silent"
    NOT_BACK = "not back after a restart"

    @property
    def is_death(self) -> bool:
        """Whether what the client held costs a retry: it may have been the task that killed it."""
        return self in DEATHS


DEATHS = frozenset({Why.CONNECTION_LOST, Why.SILENT, Why.NOT_BACK})


class Departure(Struct, frozen=True):
    """A client that is gone. Whether it is to blame for what it held depends on how it left."""

    client_id: int
    why: Why


Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Selection(Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters are meant. Conditions add up; none at all selects nothing unless `everything` says so."""

    ids: tuple[Int64, ...] | None = None
    kind: str | None = None
    error: str | None = None
    died_before: Int64 | None = None
    everything: bool = False
    through: Int64 | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked for."""
        return not self.everything and (self.ids, self.kind, self.error, self.died_before) == (None,) * 4


class Reprocess(Struct, frozen=True):
    """Let these dead tasks run again, at most `limit` of them."""

    selection: Selection
    limit: int


class Clear(Struct, frozen=True):
    """Delete these dead tasks, at most `limit` of them."""

    selection: Selection
    limit: int


class TaskSelection(Struct, frozen=True, forbid_unknown_fields=True):
    """Which tasks that have not ended are meant, those already asked to stop left out. Conditions add up."""

    ids: tuple[Int64, ...] | None = None
    kind: str | None = None
    state: Literal["scheduled", "pending", "assigned"] | None = None
    created_before: Int64 | None = None
    everything: bool = False
    through: Int64 | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked for."""
        return not self.everything and (self.ids, self.kind, self.state, self.created_before) == (None,) * 4


class Cancel(Struct, frozen=True):
    """Cancel these tasks, at most `limit` of them."""

    selection: TaskSelection
    limit: int


Command = Reprocess | Clear | Cancel
"""What an operator may have done."""


class Cancellation(Struct, frozen=True):
    """Tasks that their submitter does not need any more."""

    ids: tuple[int, ...]


class Cutoffs(Struct, frozen=True):
    """How early a task must have ended to have stayed long enough at `at`, by how it ended (UTC microseconds)."""

    at: int
    completed: int
    cancelled: int
    dead: int

    @property
    def latest(self) -> int:
        """The instant after which nothing that comes has stayed long enough."""
        return max(self.completed, self.cancelled, self.dead)


class Prune(Struct, frozen=True):
    """Take these tasks out of the store, if they have ended so early."""

    ids: tuple[int, ...]
    cutoffs: Cutoffs


class Batch(Struct):
    """Everything that one transaction carries out, in this order.

    `progress` has pairs of assignment and task, and what was last said of each. With `spares_overdue` no attempt ends
    for its timeout now: its client may not have had the chance to report in time.
    """

    registrations: list[Registration] = []
    changes: list[Change] = []
    progress: dict[tuple[int, int], Progress] = {}
    reports: list[Report] = []
    departures: list[Departure] = []
    commands: list[Command] = []
    cancellations: list[Cancellation] = []
    spares_overdue: bool = False
    prunings: list[Prune] = []
    submissions: list[Submission] = []
    heartbeats: dict[int, int] = {}
    log_position: int | None = None
    seats: list[Seat] = []
