"""What a worker holds: tasks that wait, run, or have run and whose result the server has not acknowledged.

Knows no connection: each call returns what is to be said to the server. It outlives every connection.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from anyio import Event

from dtm.client.current import CurrentTask
from dtm.client.handlers import Handlers
from dtm.client.prefetch import Prefetch
from dtm.client.reports import cancelled, is_news, last_news, news, report
from dtm.client.slots import Slots
from dtm.client.work import Work
from dtm.protocol.messages import Cancel, Capacity, ClientMessage, Release, Result, ResultResponse, Task

log = structlog.get_logger()


class Workload:
    """The tasks of one worker."""

    def __init__(self, handlers: Handlers, *, concurrency: int, prefetch: Prefetch, slots: Slots) -> None:
        self._handlers = handlers
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._slots = slots
        self._held: dict[int, Work] = {}
        self._results: dict[int, Result] = {}
        self._returned: dict[int, Release] = {}
        # Tasks past their timeout in threads that nobody can stop: their slots are taken, their attempts have ended.
        self._overran: set[int] = set()
        # What runs and the server does not count any more: since another connection, it is nobody's.
        self._adrift: set[int] = set()
        self._capacity = concurrency + prefetch.ahead(concurrency)
        self._is_closed = False
        self._emptied = Event()
        self._ended = Event()

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
        current = CurrentTask(task.task_id, task.kind, task.retry_count + 1)
        work = Work(task.assignment, handler, bytes(task.payload), current, task.timeout)
        self._held[task.assignment] = work
        self._slots.put(work)
        return []

    def harvest(self) -> list[ClientMessage]:
        """Collect what has run: its results, and what that teaches about how much to hold."""
        finished = self._slots.harvest()
        if not finished:
            return []
        self._ended.set()
        reports: list[ClientMessage] = []
        for work in finished:
            if is_news(work):
                reports.append(last_news(work))
            reports.append(self._keep(report(work)))
        self._prefetch.ran(len(finished), sum(work.took_s for work in finished))
        resized = self._resize_without({work.assignment for work in finished}) if self._overran else self._resize()
        return [*resized, *reports]

    def look_after(self, now_s: float) -> list[ClientMessage]:
        """Do what is due from time to time: tell of progress, mind timeouts, and give back what would wait too long."""
        running = [work for work in self._held.values() if work.is_running]
        return [*news(running, now_s), *self._mind_timeouts(running), *self.relieve()]

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

    def cancel(self, cancels: Iterable[Cancel]) -> list[ClientMessage]:
        """Give up at once what has not begun, and ask what runs to stop.

        Of a task whose time is over the server has seen the end already, but its place here counts as taken until it
        is answered for.
        """
        asked = {cancel.assignment: cancel.reason for cancel in cancels if cancel.assignment in self._held}
        said: list[ClientMessage] = []
        for work in self._slots.pick(asked):
            if asked.pop(work.assignment) == "timeout":
                said.append(self._return(work.task_id, work.assignment))
            else:
                said.append(self._keep(cancelled(work)))
        for assignment, reason in asked.items():
            work = self._held[assignment]
            if assignment not in self._results:
                log.info("task.stopping", task=work.task_id, kind=work.handler.kind, reason=reason)
                self._slots.stop(work, "timeout" if reason == "timeout" else "cancelled")
        return said

    def close(self) -> list[ClientMessage]:
        """Take no more; what runs may finish."""
        self._is_closed = True
        self._capacity = 0
        return [Capacity(0), *self.give_back()]

    def stop(self) -> None:
        """Stop what runs and can be stopped: it goes back without blame."""
        for work in self._stoppable():
            self._slots.stop(work, "shutdown")

    async def stopped(self) -> None:
        """Wait until nothing runs that can be stopped."""
        while self._stoppable():
            self._ended = Event()
            await self._ended.wait()

    def end(self) -> None:
        """End what can be ended, without waiting for anybody."""
        self._slots.close()

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
        self._adrift |= self._held.keys() & gone
        self._resize(at_once=True)

    def _keep(self, message: Result | Release) -> Result | Release:
        """Keep what must be heard until it is."""
        if isinstance(message, Result):
            self._results[message.assignment] = message
        else:
            self._drop(message.assignment)
            self._returned[message.assignment] = message
        return message

    def _stoppable(self) -> list[Work]:
        return [work for work in self._held.values() if work.is_running and work.handler.executor != "thread"]

    def _mind_timeouts(self, running: Iterable[Work]) -> list[ClientMessage]:
        overran = {work.assignment: work for work in running if self._slots.overran(work)}
        for assignment in overran.keys() - self._overran:
            work = overran[assignment]
            work.ask_to_stop("timeout")
            log.warning(
                "task.overran",
                task=work.task_id,
                kind=work.handler.kind,
                timeout_s=work.timeout_s,
                why="a thread cannot be stopped: its slot is taken until the handler returns",
            )
        return self._resize_without(self._overran - overran.keys(), overran.keys())

    def _resize_without(self, ended: Iterable[int], overran: Iterable[int] = ()) -> list[ClientMessage]:
        before = len(self._overran)
        self._overran.difference_update(ended)
        self._overran.update(overran)
        if len(self._overran) == self._concurrency > before:
            log.error(
                "slots.blocked", why="every slot is taken by a task past its timeout: restart this client", slots=before
            )
        return self._resize(at_once=len(self._overran) != before)

    def _resize(self, *, at_once: bool = False) -> list[ClientMessage]:
        # The place of what overran counts as taken until it is answered for; nothing is to wait where nothing can run.
        slots = max(0, self._concurrency - len(self._overran))
        wanted = self._concurrency - len(self._adrift & self._overran) + (slots and self._prefetch.ahead(slots))
        # Small changes are not worth a message.
        if self._is_closed or (not at_once and self._capacity / 2 < wanted < self._capacity * 2):
            return []
        if wanted == self._capacity:
            return []
        self._capacity = wanted
        return [Capacity(wanted)]

    def _return(self, task_id: int, assignment: int) -> Release:
        # A connection may break on the way: the server would wait for ever for a task that is not here.
        release = Release(task_id, assignment)
        self._keep(release)
        return release

    def _drop(self, assignment: int) -> None:
        self._held.pop(assignment, None)
        self._adrift.discard(assignment)
        if not self._held:
            self._emptied.set()
