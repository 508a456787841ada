"""Tasks that somebody here follows: what has become of them, and what the server is still to be asked.

Knows no connection: the producer asks and hears.
"""

from __future__ import annotations

from asyncio import Event
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

from msgspec import UNSET

from dtm.core.errors import DtmError
from dtm.core.lifecycle import ENDED
from dtm.net.pulse import pulse
from dtm.protocol.messages import TaskFinished, TaskStatus, TaskUpdate

MOST_UPDATES = 100
"""Updates that are kept for somebody who does not fetch them; of more, the oldest are dropped."""

MISSING = "missing"
"""The end of a task that does not exist."""


class Watch:
    """One task that is followed."""

    def __init__(self) -> None:
        self.end: TaskFinished | None = None
        self.wants_updates = False
        self.holders = 0
        self._error: DtmError | None = None
        self._latest: TaskUpdate | None = None
        self._listeners: list[deque[TaskUpdate]] = []
        self._news = Event()

    async def ended(self) -> TaskFinished:
        """Wait until the task has ended, and say how.

        Raises:
            DtmError: the server refuses to say, or the connection is over for good.
        """
        while self.end is None:
            await self._next()
        return self.end

    async def updates(self) -> AsyncIterator[TaskUpdate]:
        """Give how the task stands, and then whenever it goes on, until it has ended.

        Raises:
            DtmError: the same.
        """
        unread: deque[TaskUpdate] = deque([self._latest] if self._latest else [], maxlen=MOST_UPDATES)
        self._listeners.append(unread)
        try:
            while True:
                while unread:
                    yield unread.popleft()
                if self.end is not None:
                    return
                await self._next()
        finally:
            self._listeners.remove(unread)

    async def _next(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)
        await self._news.wait()

    def hear_end(self, end: TaskFinished) -> None:
        """Note the end; it may be told twice, by a notice and by the answer to a query."""
        self.end = end
        self._tell()

    def hear_update(self, update: TaskUpdate) -> None:
        """Note how the task stands."""
        if update == self._latest:
            return
        self._latest = update
        for unread in self._listeners:
            unread.append(update)
        self._tell()

    def fail(self, error: DtmError) -> None:
        """Let whoever waits know that nothing more will be heard."""
        self._error = error
        self._tell()

    def _tell(self) -> None:
        pulse(self._news)


class Watches:
    """All tasks that are followed."""

    def __init__(self) -> None:
        self._by_id: dict[int, Watch] = {}
        self._unasked: dict[int, None] = {}
        self._has_unasked = Event()

    def __getitem__(self, task_id: int) -> Watch:
        return self._by_id.setdefault(task_id, Watch())

    def has_ended(self, task_id: int) -> bool:
        """Whether the end of a task is known."""
        return task_id in self._by_id and self._by_id[task_id].end is not None

    def begin(self, task_ids: Iterable[int]) -> None:
        """Follow tasks, until `drop`; whoever begins asks the server."""
        for task_id in task_ids:
            self[task_id]

    def drop(self, task_id: int) -> None:
        """Follow a task no longer."""
        self._by_id.pop(task_id, None)
        self._unasked.pop(task_id, None)

    @contextmanager
    def held(self, task_id: int, *, updates: bool) -> Iterator[Watch]:
        """Follow a task as long as the context lasts; the server will be asked."""
        watch = self[task_id]
        watch.holders += 1
        if watch.holders == 1 or (updates and not watch.wants_updates):
            watch.wants_updates = watch.wants_updates or updates
            self._ask([task_id])
        try:
            yield watch
        finally:
            watch.holders -= 1
            if not watch.holders:
                self.drop(task_id)

    def ask_again(self) -> None:
        """Have the server asked of all that have not ended: it forgot with the last connection who follows what."""
        self._ask(task_id for task_id, watch in self._by_id.items() if watch.end is None)

    async def unasked(self) -> tuple[list[int], list[int]]:
        """Wait until the server is to be asked; of which tasks: for their ends, and for their updates too."""
        while not self._unasked:
            self._has_unasked.clear()
            await self._has_unasked.wait()
        ids, self._unasked = list(self._unasked), {}
        wanting = [task_id for task_id in ids if self._by_id[task_id].wants_updates]
        return [task_id for task_id in ids if not self._by_id[task_id].wants_updates], wanting

    def hear_status(self, task_id: int, status: TaskStatus | None) -> None:
        """Note the answer to a query."""
        watch = self._by_id.get(task_id)
        if watch is None:
            return
        if status is None:
            watch.hear_end(TaskFinished(task_id, MISSING))
        elif status.state in ENDED:
            watch.hear_end(TaskFinished(task_id, status.state, status.value, status.error))
        else:
            watch.hear_update(_as_update(task_id, status))

    def hear(self, message: TaskFinished | TaskUpdate) -> None:
        """Note a notice."""
        watch = self._by_id.get(message.task_id)
        if watch is None:
            return
        if isinstance(message, TaskFinished):
            watch.hear_end(message)
        else:
            watch.hear_update(message)

    def fail(self, error: DtmError, task_ids: Iterable[int] | None = None) -> None:
        """Let whoever follows these tasks, or any, know that nothing more will be heard."""
        for task_id in list(self._by_id) if task_ids is None else task_ids:
            if task_id in self._by_id:
                self._by_id[task_id].fail(error)

    def _ask(self, task_ids: Iterable[int]) -> None:
        self._unasked.update(dict.fromkeys(task_ids))
        self._has_unasked.set()


def _as_update(task_id: int, status: TaskStatus) -> TaskUpdate:
    return TaskUpdate(
        task_id,
        status.state,
        status.retry_count,
        status.fraction,
        status.note,
        status.run_at,
        status.cancel_requested or UNSET,
    )
