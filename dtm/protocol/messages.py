"""The messages of the wire, version 1, and what each field may hold.

Knows no sockets, no database and nothing of what a message sets in motion.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from dtm.protocol.framing import MAX_VALUE

PROTOCOL_VERSION = 1

MAX_NAME = 255
"""Characters of a kind, a key, a client's name."""

Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Kind = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Key = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Priority = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
# A hundred years: anything above is a unit mistaken, and sums of it must stay inside 64 bits of microseconds.
Seconds = Annotated[float, Meta(ge=0, le=100 * 365 * 86_400)]
# Whoever waits for it in a loop must wait at all.
Period = Annotated[float, Meta(gt=0, le=100 * 365 * 86_400)]
# The year 9999, the last that a date can name.
UnixSeconds = Annotated[float, Meta(ge=0, le=253_402_300_799)]
Retries = Annotated[int, Meta(ge=1, le=1_000_000)]
MAX_TASKS = 10_000
"""Tasks of one `Submit`."""

Slots = Annotated[int, Meta(ge=0, le=100_000)]
# Thirty-two bytes in hexadecimal digits: a nonce or a proof.
Hex32 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Share = Annotated[float, Meta(ge=0, le=1)]
Note = Annotated[str, Meta(max_length=200)]
TypeNames = Annotated[list[Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]], Meta(max_length=100)]
# Plain, since it goes back as it came: nothing nested so deep that it could be read and not be written.
Timestamp = Int64 | float | str | None


class Message(Struct, frozen=True, tag=True):
    """A line of the wire; its `type` is the class's name."""


class Failure(Struct, frozen=True):
    """Why an attempt failed, as the worker saw it.

    `bases` are the names of the types that `type` is a kind of, the nearest first: a retry policy may name one of them.
    """

    type: str
    message: str = ""
    traceback: str = ""
    bases: Annotated[list[str], Meta(max_length=20)] | UnsetType = UNSET


# --- from client -----------------------------------------------------------------------------------------------


class Authenticate(Message, frozen=True):
    """I know a token, and want to see that you do; this is my fresh nonce."""

    nonce: Hex32


class Proof(Message, frozen=True):
    """My answer to your challenge."""

    proof: Hex32


class Register(Message, frozen=True):
    """I run tasks: these kinds, so many at once; these assignments I still hold.

    `instance` is this process: the same on each of its connections, another's never.
    """

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    kinds: Annotated[list[Kind], Meta(max_length=1_000)]
    capacity: Slots
    resume: Annotated[list[Id], Meta(max_length=100_000)] = []
    instance: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class RetryPolicy(Struct, frozen=True, omit_defaults=True):
    """When a task is tried again, and after which failures; what is left out is as the server has it.

    `jitter` is the part of each wait that is chance.
    """

    backoff: Literal["constant", "linear", "exponential"] = "exponential"
    delay: Seconds | None = None
    max_delay: Seconds | None = None
    jitter: Share = 0.5
    retry_for: TypeNames = []
    no_retry_for: TypeNames = []


class SubmittedTask(Struct, frozen=True, omit_defaults=True):
    """One task inside `Submit`. Times are seconds; `delay` and `run_at` exclude each other, and so do the expiries."""

    kind: Kind
    payload: Raw = Raw(b"null")
    key: Key | None = None
    priority: Priority = 0
    delay: Seconds | None = None
    run_at: UnixSeconds | None = None
    max_retries: Retries | None = None
    timeout: Period | None = None
    expires: Seconds | None = None
    expires_at: UnixSeconds | None = None
    unique: Key | None = None
    retry: RetryPolicy | None = None


class Submit(Message, frozen=True):
    """Take these tasks, all or none; `notify` asks for a `TaskFinished` each, `updates` for every `TaskUpdate` too."""

    ref: Int64
    tasks: Annotated[list[SubmittedTask], Meta(min_length=1, max_length=MAX_TASKS)]
    notify: bool = False
    updates: bool = False


class Result(Message, frozen=True):
    """How an assignment went: `ok` with a `value`, or not ok with an `error`.

    `after` says when the next try is to come, whatever the task's policy has to say.
    """

    task_id: Id
    assignment: Id
    ok: bool
    value: Raw = Raw(b"null")
    error: Failure | None = None
    retry: bool = True
    after: Seconds | None = None


class Release(Message, frozen=True):
    """This assignment goes back without a result, for `delay` seconds if given; nobody is to blame."""

    task_id: Id
    assignment: Id
    delay: Seconds | None = None


class Progress(Message, frozen=True):
    """So much of this assignment is done, as far as is known; the last word counts."""

    task_id: Id
    assignment: Id
    fraction: Share | None = None
    note: Note = ""


class Capacity(Message, frozen=True):
    """From now on I hold so many tasks at once; 0 means no more."""

    capacity: Slots


class PingRequest(Message, frozen=True):
    """I am alive; `timestamp` comes back as it is."""

    timestamp: Timestamp = None


class Query(Message, frozen=True):
    """What became of these tasks? `notify` and `updates` ask for messages about each that has not ended yet."""

    ref: Int64
    ids: Annotated[list[Id], Meta(max_length=10_000)]
    notify: bool = False
    updates: bool = False


class CancelRequest(Message, frozen=True):
    """Nobody needs these tasks any more: end those that wait, and ask the workers of the others to stop."""

    ref: Int64
    ids: Annotated[list[Id], Meta(max_length=10_000)]


class Admin(Message, frozen=True):
    """An operator's command."""

    ref: Int64
    command: str
    args: Raw = Raw(b"{}")


class Goodbye(Message, frozen=True):
    """I leave on purpose: what I hold goes back without blame."""


ClientMessage = (
    Authenticate
    | Proof
    | Register
    | Submit
    | Result
    | Release
    | Progress
    | Capacity
    | PingRequest
    | Query
    | CancelRequest
    | Admin
    | Goodbye
)

# --- from server -----------------------------------------------------------------------------------------------


class Challenge(Message, frozen=True):
    """Prove it with this, my fresh nonce."""

    nonce: Hex32


class Authenticated(Message, frozen=True):
    """You have proved it, and may act in these roles; this proves that I know the token as well."""

    roles: list[str]
    proof: Hex32


class RegisterResponse(Message, frozen=True):
    """You are in; of what you wished to resume, this is still yours and that is not. Values may be so long.

    `store` and `epoch` say which store this is, and how often it has been opened: it goes up, or something was lost.
    """

    client_id: Id
    server: str
    protocol: Int64
    heartbeat_interval: Period
    heartbeat_timeout: Period
    resumed: list[Id]
    lost: list[Id]
    max_value: Id = MAX_VALUE
    store: str = ""
    epoch: Id = 0


class SubmitResponse(Message, frozen=True):
    """The tasks are on disk, ids in their order; `duplicates` are ids that their keys already had."""

    ref: Int64
    ids: list[Id]
    duplicates: list[Id]


class Task(Message, frozen=True):
    """Run this."""

    task_id: Id
    assignment: Id
    kind: str
    payload: Raw
    retry_count: Id
    timeout: Seconds | None


class ResultResponse(Message, frozen=True):
    """Your result was `accepted`, or came `stale` and changed nothing; `state` is the task's state now."""

    task_id: Id
    assignment: Id
    status: str
    state: str | None


class TaskFinished(Message, frozen=True, omit_defaults=True):
    """A task you asked about has ended: with a `value` if completed, else with an `error`."""

    task_id: Id
    state: str
    value: Raw | UnsetType = UNSET
    error: Failure | UnsetType = UNSET


class TaskUpdate(Message, frozen=True):
    """A task you asked about goes on: this is how it stands now.

    `cancel_requested` is left out unless somebody has asked that it be stopped.
    """

    task_id: Id
    state: str
    retry_count: Id
    fraction: Share | None = None
    note: str = ""
    next_run_at: UnixSeconds | None = None
    cancel_requested: bool | UnsetType = UNSET


class TaskStatus(Struct, frozen=True, omit_defaults=True):
    """One task inside `QueryResponse`."""

    task_id: Id
    kind: str
    state: str
    retry_count: Id
    max_retries: Id
    value: Raw | UnsetType = UNSET
    error: Failure | UnsetType = UNSET
    fraction: Share | None = None
    note: str = ""
    run_at: UnixSeconds | None = None
    cancel_requested: bool = False


class Cancel(Message, frozen=True):
    """Please stop working on this assignment: it was `cancelled`, or its time is over (`timeout`)."""

    task_id: Id
    assignment: Id
    reason: str = "cancelled"


class CancelResponse(Message, frozen=True):
    """The tasks' states now, in order: `assigned` are those whose workers are asked; null where none such exists."""

    ref: Int64
    states: list[str | None]


class PingResponse(Message, frozen=True):
    """Your ping arrived."""

    timestamp: Timestamp = None


class QueryResponse(Message, frozen=True):
    """The tasks asked for, in order; null where no such task exists."""

    ref: Int64
    tasks: list[TaskStatus | None]


class AdminResponse(Message, frozen=True):
    """The command was carried out."""

    ref: Int64
    result: Raw


class ShuttingDown(Message, frozen=True):
    """No new tasks come from here; finish, report, and come back later."""


class Error(Message, frozen=True, omit_defaults=True):
    """No, and why: a kebab-case `code` for programs, a `message` for people."""

    code: str
    message: str
    ref: Int64 | UnsetType = UNSET


ServerMessage = (
    Challenge
    | Authenticated
    | RegisterResponse
    | SubmitResponse
    | Task
    | ResultResponse
    | TaskFinished
    | TaskUpdate
    | Cancel
    | CancelResponse
    | PingResponse
    | QueryResponse
    | AdminResponse
    | ShuttingDown
    | Error
)
