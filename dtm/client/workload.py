"""What a worker holds: tasks that wait, run, or have run and whose result the server has not acknowledged.

Knows no connection: each call returns what is to be said to the server. It outlives every connection.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from anyio import Event

from dtm.client.handlers import Handlers
from dtm.client.prefetch import Prefetch
from dtm.client.reports import report
from dtm.client.slots import Slots
from dtm.client.work import Work
from dtm.protocol.messages import Capacity, ClientMessage, Release, Result, ResultResponse, Task

log = structlog.get_logger()


class Workload:
    """The tasks of one worker."""

    def __init__(self, handlers: Handlers, *, concurrency: int, prefetch: Prefetch, slots: Slots) -> None:
        self._handlers = handlers
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._slots = slots
        self._held: set[int] = set()
        self._results: dict[int, Result] = {}
        self._returned: dict[int, Release] = {}
        self._capacity = concurrency + prefetch.ahead(concurrency)
        self._is_closed = False
        self._emptied = Event()

    def bound_values(self, most: int) -> None:
        """Let a task fail whose result is longer than the server takes."""
        self._slots.max_value = most

    @property
    def kinds(self) -> list[str]:
        """What it can run."""
        return list(self._handlers)

    @property
    def capacity(self) -> int:
        """How many tasks it wants to hold."""
        return self._capacity

    @property
    def assignments(self) -> list[int]:
        """What the server may believe to be here: what is held, and what was given back without its acknowledgement."""
        return [*self._held, *self._returned]

    @property
    def unfinished(self) -> int:
        """How many tasks are held: those that wait, those that run, and those whose result nobody has acknowledged."""
        return len(self._held)

    @property
    def unheard(self) -> list[Result | Release]:
        """What is to be said again on a new connection."""
        return [*self._results.values(), *self._returned.values()]

    async def emptied(self) -> None:
        """Wait until nothing is held."""
        while self._held:
            self._emptied = Event()
            await self._emptied.wait()

    def take(self, task: Task) -> list[ClientMessage]:
        """Let a task run, or give it back if none of that kind may."""
        handler = self._handlers.get(task.kind)
        if handler is None or self._is_closed:
            return [self._return(task.task_id, task.assignment)]
        attempt = task.retry_count + 1
        work = Work(
            task.task_id, task.assignment, handler, bytes(task.payload), attempt=attempt, timeout_s=task.timeout
        )
        self._held.add(work.assignment)
        self._slots.put(work)
        return []

    def harvest(self) -> list[ClientMessage]:
        """Collect what has run: its results, and what that teaches about how much to hold."""
        finished = self._slots.harvest()
        if not finished:
            return []
        reports = [self._keep(report(work)) for work in finished]
        self._prefetch.ran(len(finished), sum(work.took_s for work in finished))
        return [*self._resize(), *reports]

    def relieve(self) -> list[ClientMessage]:
        """Give back what waits behind tasks that take long; another worker may be idle."""
        stalled_s = self._slots.stalled_s()
        if stalled_s < self._prefetch.patience_s:
            return []
        self._prefetch.ran(1, stalled_s)
        return [*self._resize(), *self.give_back()]

    def give_back(self) -> list[ClientMessage]:
        """Give back everything that has not begun."""
        return [self._return(work.task_id, work.assignment) for work in self._slots.withdraw()]

    def close(self) -> list[ClientMessage]:
        """Take no more; what runs may finish."""
        self._is_closed = True
        self._capacity = 0
        return [Capacity(0), *self.give_back()]

    def answered(self, response: ResultResponse) -> None:
        """Note that the server has heard a result, or that a task goes back."""
        if response.status == "stale" and response.assignment in self._held:
            log.warning("task.stale", task=response.task_id, assignment=response.assignment, state=response.state)
        self._results.pop(response.assignment, None)
        self._returned.pop(response.assignment, None)
        self._drop(response.assignment)

    def lost(self, assignments: Iterable[int]) -> None:
        """Forget what is no longer this worker's. What already runs goes on; its result will be stale."""
        gone = set(assignments)
        for assignment in gone:
            self._returned.pop(assignment, None)
        for work in self._slots.pick(gone):
            self._drop(work.assignment)

    def _keep(self, message: Result | Release) -> Result | Release:
        """Keep what must be heard until it is."""
        if isinstance(message, Result):
            self._results[message.assignment] = message
        else:
            self._drop(message.assignment)
            self._returned[message.assignment] = message
        return message

    def _resize(self) -> list[ClientMessage]:
        wanted = self._concurrency + self._prefetch.ahead(self._concurrency)
        # Small changes are not worth a message.
        if self._is_closed or self._capacity / 2 < wanted < self._capacity * 2:
            return []
        self._capacity = wanted
        return [Capacity(wanted)]

    def _return(self, task_id: int, assignment: int) -> Release:
        # A connection may break on the way: the server would wait for ever for a task that is not here.
        release = Release(task_id, assignment)
        self._keep(release)
        return release

    def _drop(self, assignment: int) -> None:
        self._held.discard(assignment)
        if not self._held:
            self._emptied.set()
