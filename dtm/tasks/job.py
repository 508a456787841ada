"""A submitted task, as its submitter sees it: its result, how it stands, its progress, and its cancellation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Generic, TypeVar

import anyio
import msgspec
from msgspec import UNSET, Raw, Struct

from dtm.client.producer import Producer
from dtm.client.watches import MISSING
from dtm.core.durations import Duration, format_duration, seconds_of
from dtm.protocol.messages import Failure, Id, TaskFinished, TaskStatus, TaskUpdate
from dtm.tasks.errors import NotFound, TaskCancelled, TaskExpired, TaskFailed

R_co = TypeVar("R_co", covariant=True)

_GONE = (MISSING, "cleared")


class Update(Struct, frozen=True):
    """How a task stands at a moment.

    state: scheduled, pending, assigned, or how it has ended: completed, dead, cancelled, expired or cleared.
    retry_count: how many of its attempts have failed.
    fraction, note: the last progress that the task has told, None and empty if none.
    next_run_at: when a task that is scheduled is to run.
    cancel_requested: whether somebody has asked that it be stopped while it ran.
    """

    state: str
    retry_count: int = 0
    fraction: float | None = None
    note: str = ""
    next_run_at: datetime | None = None
    cancel_requested: bool = False


class Status(Update, frozen=True, kw_only=True):
    """How a task stands, and what it is."""

    id: int
    kind: str
    max_retries: int


class Job(Generic[R_co]):
    """A task on the server, whoever has submitted it.

    Raises:
        ValueError: `id` can be that of no task.
    """

    def __init__(self, id: int, producer: Callable[[], Producer], read: Callable[[Raw], R_co]) -> None:
        try:
            msgspec.convert(id, Id)
        except msgspec.ValidationError:
            raise ValueError(
                f"wanted the id of a task, a whole number from 0 to 2**63 - 1, found {id!r}; job.id gives it"
            ) from None
        self.id = id
        self._producer = producer
        self._read = read

    def __repr__(self) -> str:
        return f"<dtm job {self.id}>"

    async def result(self, timeout: Duration | None = None) -> R_co:  # noqa: ASYNC109  people expect it here
        """Wait until the task has ended, over breaks and restarts of the server, and give what it returned.

        Raises:
            TimeoutError: it has not ended within `timeout`; it goes on, and can be waited for again.
            TaskFailed: it failed for good.
            TaskCancelled: it was cancelled.
            TaskExpired: it expired while it waited.
            NotFound: the server has no such task, or no longer.
            UnexpectedResult: it returned something else than its function says.
        """
        timeout_s = None if timeout is None else seconds_of(timeout)
        try:
            with anyio.fail_after(timeout_s), self._producer().following(self.id) as watch:
                end = await watch.ended()
        except TimeoutError:
            # Without a timeout it is not anyio's, and passes on as it is.
            if timeout_s is None:
                raise
            waited = f"task {self.id} has not ended within {format_duration(timeout_s)}"
            raise TimeoutError(f"{waited}; it goes on, and can be waited for again") from None
        return self._read(_value(end))

    async def status(self) -> Status:
        """Ask how the task stands.

        Raises:
            NotFound: the server has no such task.
        """
        (status,) = await self._producer().query([self.id], follow=False)
        if status is None:
            raise _not_found(self.id)
        return _status(status)

    async def cancel(self) -> str:
        """Have the task cancelled, and give its state once that is on the server's disk.

        `cancelled` if it had not begun; `assigned` if it runs: its worker is asked to stop it, and it ends cancelled
        unless it succeeds before that; any other state is an end that came first.

        Raises:
            NotFound: the server has no such task.
        """
        (state,) = await self._producer().cancel([self.id])
        if state is None:
            raise _not_found(self.id)
        return state

    async def updates(self) -> AsyncGenerator[Update, None]:
        """Give how the task stands, and then whenever it goes on or makes progress; its end is the last.

        Whoever takes long between two sees the last hundred.

        Raises:
            NotFound: the server has no such task.
        """
        with self._producer().following(self.id, updates=True) as watch:
            last = Update("pending")
            async for update in watch.updates():
                last = _update(update)
                yield last
            end = await watch.ended()
        if end.state in _GONE:
            raise _not_found(self.id)
        # The notice of an end does not tell of the last attempt and its progress.
        (status,) = await self._producer().query([self.id], follow=False)
        if status is not None and status.state == end.state:
            last = _standing(status)
        yield msgspec.structs.replace(last, state=end.state, next_run_at=None)


def _value(end: TaskFinished) -> Raw:
    match end.state:
        case "completed":
            return Raw(b"null") if end.value is UNSET else end.value
        case "dead":
            error = Failure("Unknown", "the server does not say why") if end.error is UNSET else end.error
            raise TaskFailed(error, id=end.task_id)
        case "cancelled":
            raise TaskCancelled(id=end.task_id)
        case "expired":
            raise TaskExpired(id=end.task_id)
        case _:
            raise _not_found(end.task_id)


def _not_found(id: int) -> NotFound:
    return NotFound(f"the server has no task {id}: there never was one in its database, or it has been cleared away")


def _update(update: TaskUpdate) -> Update:
    return Update(
        state=update.state,
        retry_count=update.retry_count,
        fraction=update.fraction,
        note=update.note,
        next_run_at=_instant(update.next_run_at),
        cancel_requested=update.cancel_requested is True,
    )


def _standing(status: TaskStatus) -> Update:
    known = _status(status)
    return Update(**{name: getattr(known, name) for name in Update.__struct_fields__})


def _status(status: TaskStatus) -> Status:
    return Status(
        state=status.state,
        retry_count=status.retry_count,
        fraction=status.fraction,
        note=status.note,
        next_run_at=_instant(status.run_at) if status.state == "scheduled" else None,
        id=status.task_id,
        kind=status.kind,
        max_retries=status.max_retries,
        cancel_requested=status.cancel_requested,
    )


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
