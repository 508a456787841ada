"""The slots of a worker: so many tasks run at once, fed through one queue, harvested many at a time with one wake-up.

Threads take tasks out of the queue and run them, follow the process that runs them, or hand them over to the event loop
of the coroutines. A thread cannot be stopped from outside; it ends with the process. Knows no server.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Container
from contextvars import copy_context
from queue import Empty, SimpleQueue

from dtm.client.coroutines import Coroutines
from dtm.client.current import become
from dtm.client.handlers import run_sync
from dtm.client.origin import UNKNOWN, Origin
from dtm.client.pool.processes import Processes
from dtm.client.work import StopReason, Work
from dtm.protocol.framing import MAX_VALUE


def threads(count: int, on_done: Callable[[], object], *, origin: Origin = UNKNOWN) -> Slots:
    """Give `count` slots, with as many threads, which start as they are needed; processes are told of `origin`."""
    return Slots(on_done, time.perf_counter, count=count, origin=origin)


class Slots:
    """What waits, what has run and how one run goes; threads, or what stands for them, call `take` and `run`."""

    def __init__(
        self, on_done: Callable[[], object], clock_s: Callable[[], float], *, count: int = 0, origin: Origin = UNKNOWN
    ) -> None:
        self._waiting: SimpleQueue[Work] = SimpleQueue()
        self._done: deque[Work] = deque()
        self._is_told = False
        self.max_value = MAX_VALUE
        self._on_done = on_done
        self._clock_s = clock_s
        self._begun_s = clock_s()
        self._processes = Processes(origin)
        self._coroutines = Coroutines(self._end_coroutine)
        self._threads_to_come = self._count = count
        self._has_spare_thread = False
        # One for each slot that is free. A coroutine takes that of the thread that has begun it with it.
        self._places: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self._places.put(None)

    def put(self, work: Work) -> None:
        """Let `work` run as soon as a slot is free."""
        if self._waiting.empty():
            # It has not waited for anybody yet.
            self._begun_s = self._clock_s()
        self._waiting.put(work)
        if self._threads_to_come:
            self._add_thread(work)

    def _add_thread(self, work: Work) -> None:
        # One thread more than there are tasks that keep theirs begins any number of coroutines.
        if work.handler.executor != "async" or not self._has_spare_thread:
            self._has_spare_thread |= work.handler.executor == "async"
            self._threads_to_come -= 1
            name = f"slot-{self._count - self._threads_to_come}"
            threading.Thread(target=self.serve, name=name, daemon=True).start()

    def harvest(self) -> list[Work]:
        """Take what has run since the last call."""
        self._is_told = False
        finished = []
        while self._done:
            finished.append(self._done.popleft())
        return finished

    def withdraw(self) -> list[Work]:
        """Take back everything that has not begun."""
        taken = []
        while True:
            try:
                taken.append(self._waiting.get_nowait())
            except Empty:
                return taken

    def pick(self, assignments: Container[int]) -> list[Work]:
        """Take back those of `assignments` that have not begun; the others wait on, in their order."""
        picked = []
        for work in self.withdraw():
            if work.assignment in assignments:
                picked.append(work)
            else:
                self._waiting.put(work)
        return picked

    def stalled_s(self) -> float:
        """Say for how many seconds nothing has begun although something waits."""
        return 0.0 if self._waiting.empty() else self._clock_s() - self._begun_s

    def overran(self, work: Work) -> bool:
        """Say whether `work`, which runs, does so in a thread and for longer than it may: nobody can stop it there."""
        return (
            work.timeout_s is not None
            and work.handler.executor == "thread"
            and (work.stop_reason == "timeout" or work.begun_s < self._clock_s() - work.timeout_s)
        )

    def stop(self, work: Work, reason: StopReason) -> None:
        """Ask what has begun to stop: a coroutine is cancelled, and whoever follows a process ends it.

        Code in a thread may look whether it was asked to.
        """
        work.ask_to_stop(reason)
        if work.handler.executor == "async":
            self._coroutines.stop(work)

    def close(self) -> None:
        """End what can be ended; nobody waits for anything any more."""
        self._coroutines.close()
        self._processes.close()

    def take(self) -> Work:
        """Begin what has waited longest; waits for it."""
        work = self._waiting.get()
        work.begun_s = self._begun_s = self._clock_s()
        return work

    def run(self, work: Work) -> None:
        """Run what was begun, in the thread that calls, and in a context of its own."""
        # Else the next task in this thread, and the coroutines that it begins, would find what this one has set.
        copy_context().run(self._run, work)
        self._end(work)

    def _run(self, work: Work) -> None:
        become(work.current)
        handler = work.handler
        if handler.executor == "process":
            work.end(self._processes.run(work, max_value=self.max_value))
        else:
            work.end(run_sync(handler, work.payload, max_result_bytes=self.max_value))

    def serve(self) -> None:
        """Run one after the other, for ever."""
        self._places.get()
        while True:
            work = self.take()
            if work.handler.executor == "async":
                self._coroutines.start(work, max_value=self.max_value)
                self._places.get()
            else:
                self.run(work)

    def _end_coroutine(self, work: Work) -> None:
        self._end(work)
        self._places.put(None)

    def _end(self, work: Work) -> None:
        work.took_s = self._clock_s() - work.begun_s
        self._done.append(work)
        # One wake-up serves all that finish before it is answered.
        if not self._is_told:
            self._is_told = True
            self._on_done()
