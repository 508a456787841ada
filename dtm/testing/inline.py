"""Tasks run at once, where they are submitted: no server, no worker, and no waiting.

Arguments and results travel as JSON and back, as they would. Delays and waits between tries are left out; timeouts and
expiries have no clock to run against.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import anyio
from anyio.abc import ByteStream
from msgspec import Raw, Struct, structs

from dtm.client.current import CurrentTask, running
from dtm.client.failures import Failure
from dtm.client.handlers import Handlers, Outcome, Returned, Success, find, run_async, run_sync
from dtm.client.link import Unreachable
from dtm.client.producer import Producer
from dtm.client.requests import RequestRefused
from dtm.client.watches import Watch
from dtm.core.lifecycle import State
from dtm.core.retry import AS_THE_SERVER, RetryPolicy
from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.protocol.framing import MAX_VALUE
from dtm.protocol.messages import SubmittedTask, TaskStatus
from dtm.tasks.app import App
from dtm.tasks.sync import require_no_loop

T = TypeVar("T")

MAX_RETRIES = 3
"""As a server that was told nothing else."""


@contextmanager
def inline(app: App) -> Iterator[None]:
    """Let what is submitted to `app` run at once, as long as the context lasts.

    A job is over when `submit` gives it: `result` has what the function returned, or raises what it would raise after
    all retries, which follow each other without a pause. A task that snoozes stays `scheduled`, and `result` raises
    TimeoutError: nothing runs later.
    """
    producer = InlineProducer(app)
    with app.standing_in(producer, InlineLine(producer)):
        yield


class InlineLine:
    """What `task.sync` speaks over: the thread that calls it."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` here."""
        require_no_loop()
        return anyio.run(work)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class _Kept(Struct, frozen=True):
    """A task, as it was submitted and as it has ended."""

    task: SubmittedTask
    status: TaskStatus


class InlineProducer(Producer):
    """A producer whose server is this very place."""

    def __init__(self, app: App) -> None:
        super().__init__("inline", 0, connect=_nowhere, chance=random.Random(0), on_trouble=lambda _: None)
        self._app = app
        self._kept: dict[int, _Kept] = {}
        self._ids: dict[str, int] = {}

    async def submit(self, tasks: Sequence[SubmittedTask], *, follow: bool) -> list[int]:
        """Run the tasks, and give their ids."""
        return [await self._run_once(task) for task in tasks]

    async def query(self, ids: Sequence[int], *, follow: bool) -> list[TaskStatus | None]:
        """Tell how tasks have ended."""
        return [self._kept[id].status if id in self._kept else None for id in ids]

    async def cancel(self, ids: Sequence[int]) -> list[str | None]:
        """Cancel what was snoozed; everything else has ended."""
        for id in ids:
            if id in self._kept and self._kept[id].status.state == State.SCHEDULED:
                status = structs.replace(self._kept[id].status, state=State.CANCELLED, run_at=None)
                self._kept[id] = _Kept(self._kept[id].task, status)
        return [self._kept[id].status.state if id in self._kept else None for id in ids]

    def following(self, task_id: int, *, updates: bool = False) -> AbstractContextManager[Watch]:
        """Give a watch that knows the end already."""
        kept = self._kept.get(task_id)
        if kept is not None and kept.status.state == State.SCHEDULED:
            raise TimeoutError(f"task {task_id} has put itself off, and inline nothing runs later")
        self._watches.begin([task_id])
        self._watches.hear_status(task_id, None if kept is None else kept.status)
        return self._watches.held(task_id, updates=updates)

    async def _run_once(self, task: SubmittedTask) -> int:
        handlers = self._app.handlers
        find(handlers, task.kind)
        id = self._ids.get(task.key or "")
        if id is None:
            id = len(self._kept) + 1
            self._ids[task.key or f"#{id}"] = id
            self._kept[id] = _Kept(task, await _run(handlers, task, id))
        elif (self._kept[id].task.kind, bytes(self._kept[id].task.payload)) != (task.kind, bytes(task.payload)):
            raise RequestRefused(
                ErrorCode.KEY_CONFLICT, f"the key {task.key!r} is that of task {id}, of another kind or payload"
            )
        return id


async def _run(handlers: Handlers, task: SubmittedTask, id: int) -> TaskStatus:
    max_retries = task.max_retries or MAX_RETRIES
    failed = 0
    while True:
        current = CurrentTask(id, task.kind, failed + 1)
        outcome = await _attempt(handlers, task, current)
        fraction, note = current.latest or (None, "")
        status = TaskStatus(id, task.kind, State.COMPLETED, failed, max_retries, fraction=fraction, note=note)
        match outcome:
            case Success(value):
                return structs.replace(status, value=Raw(bytes(value)))
            case Returned():
                return structs.replace(status, state=State.SCHEDULED)
            case Failure():
                failed += 1
                if failed >= max_retries or not _tries_again(task, outcome):
                    error = messages.Failure(outcome.type, outcome.message, outcome.traceback)
                    return structs.replace(status, state=State.DEAD, retry_count=failed, error=error)


async def _attempt(handlers: Handlers, task: SubmittedTask, current: CurrentTask) -> Outcome:
    handler = handlers[task.kind]
    with running(current):
        if handler.is_async:
            return await run_async(handler, task.payload, max_result_bytes=MAX_VALUE)
        return run_sync(handler, task.payload, max_result_bytes=MAX_VALUE)


def _tries_again(task: SubmittedTask, failure: Failure) -> bool:
    policy = AS_THE_SERVER
    if task.retry is not None:
        policy = RetryPolicy(retry_for=tuple(task.retry.retry_for), no_retry_for=tuple(task.retry.no_retry_for))
    return failure.retry and policy.tries_again((failure.type, *failure.bases))


async def _nowhere(host: str, port: int) -> ByteStream:
    raise Unreachable(f"{host}:{port} is no server")
