"""What a worker holds: tasks that wait, run, or have run and whose result the server has not acknowledged.

Knows no connection: each call returns what is to be said to the server. It outlives every connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog
from anyio import Event

from dtm.client.handlers import Handlers, Success
from dtm.client.prefetch import Prefetch
from dtm.client.slots import Slots, Work
from dtm.protocol.messages import Capacity, ClientMessage, Failure, Release, Result, ResultResponse, Task

log = structlog.get_logger()


class Workload:
    """The tasks of one worker."""

    def __init__(
        self, handlers: Handlers, *, concurrency: int, prefetch: Prefetch, on_done: Callable[[], object]
    ) -> None:
        self._handlers = handlers
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._slots = Slots(concurrency, on_done)
        self._held: dict[int, Work] = {}
        self._unheard: dict[int, Result] = {}
        self._capacity = concurrency + prefetch.ahead(concurrency)
        self._is_closed = False
        self._emptied = Event()

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
        """What it holds, results that nobody has acknowledged included."""
        return list(self._held)

    @property
    def unheard(self) -> list[Result]:
        """The results that are to be sent again on a new connection."""
        return list(self._unheard.values())

    async def emptied(self) -> None:
        """Wait until nothing is held."""
        while self._held:
            self._emptied = Event()
            await self._emptied.wait()

    def take(self, task: Task) -> list[ClientMessage]:
        """Let a task run, or give it back if none of that kind may."""
        handler = self._handlers.get(task.kind)
        if handler is None or self._is_closed:
            return [Release(task.task_id, task.assignment)]
        work = Work(task.task_id, task.assignment, handler, bytes(task.payload))
        self._held[work.assignment] = work
        self._slots.put(work)
        return []

    def harvest(self) -> list[ClientMessage]:
        """Collect what has run: its results, and what that teaches about how much to hold."""
        finished = self._slots.harvest()
        if not finished:
            return []
        results = [_result(work) for work in finished]
        self._unheard.update((result.assignment, result) for result in results)
        self._prefetch.ran(len(finished), sum(work.took_s for work in finished))
        return [*self._resize(), *results]

    def relieve(self) -> list[ClientMessage]:
        """Give back what waits behind tasks that take long; another worker may be idle."""
        stalled_s = self._slots.stalled_s()
        if stalled_s < self._prefetch.patience_s:
            return []
        self._prefetch.ran(1, stalled_s)
        return [*self._resize(), *self.give_back()]

    def give_back(self) -> list[ClientMessage]:
        """Give back everything that has not begun."""
        withdrawn = self._slots.withdraw()
        for work in withdrawn:
            self._drop(work.assignment)
        return [Release(work.task_id, work.assignment) for work in withdrawn]

    def close(self) -> list[ClientMessage]:
        """Take no more; what runs may finish."""
        self._is_closed = True
        self._capacity = 0
        return [Capacity(0), *self.give_back()]

    def answered(self, response: ResultResponse) -> None:
        """Note that the server has heard a result."""
        if response.status == "stale" and response.assignment in self._held:
            log.warning("task.stale", task=response.task_id, assignment=response.assignment, state=response.state)
        self._unheard.pop(response.assignment, None)
        self._drop(response.assignment)

    def lost(self, assignments: Iterable[int]) -> None:
        """Forget what is no longer this worker's. What already runs goes on; its result will be stale."""
        gone = set(assignments)
        for work in self._slots.withdraw():
            if work.assignment in gone:
                self._drop(work.assignment)
            else:
                self._slots.put(work)

    def _resize(self) -> list[ClientMessage]:
        wanted = self._concurrency + self._prefetch.ahead(self._concurrency)
        # Small changes are not worth a message.
        if self._is_closed or self._capacity / 2 < wanted < self._capacity * 2:
            return []
        self._capacity = wanted
        return [Capacity(wanted)]

    def _drop(self, assignment: int) -> None:
        self._held.pop(assignment, None)
        if not self._held:
            self._emptied.set()


def _result(work: Work) -> Result:
    outcome = work.outcome
    if isinstance(outcome, Success):
        return Result(task_id=work.task_id, assignment=work.assignment, ok=True, value=outcome.value)
    assert outcome is not None
    log.info("task.failed", task=work.task_id, kind=work.handler.kind, error=f"{outcome.type}: {outcome.message}")
    error = Failure(outcome.type, outcome.message, outcome.traceback)
    return Result(task_id=work.task_id, assignment=work.assignment, ok=False, error=error, retry=outcome.retry)
