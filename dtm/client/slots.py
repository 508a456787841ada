"""The threads that run tasks: fed through one queue, harvested many at a time with one wake-up.

Knows no server. A thread cannot be stopped from outside; it ends with the process.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

from dtm.client.handlers import Handler, Outcome, run_sync
from dtm.protocol.framing import MAX_VALUE


class Work:
    """A task that is to run, runs, or has run."""

    def __init__(self, task_id: int, assignment: int, handler: Handler, payload: bytes) -> None:
        self.task_id = task_id
        self.assignment = assignment
        self.handler = handler
        self.payload = payload
        self.begun_s = 0.0
        self.took_s = 0.0
        self.outcome: Outcome | None = None


def threads(count: int, on_done: Callable[[], object]) -> Slots:
    """Start `count` threads, each of which runs one task at a time."""
    slots = Slots(on_done, time.perf_counter)
    for number in range(count):
        threading.Thread(target=slots.serve, name=f"slot-{number}", daemon=True).start()
    return slots


class Slots:
    """What waits, what has run and how one run goes; threads, or what stands for them, call `take` and `run`."""

    def __init__(self, on_done: Callable[[], object], clock_s: Callable[[], float]) -> None:
        self._waiting: SimpleQueue[Work] = SimpleQueue()
        self._done: deque[Work] = deque()
        self._is_told = False
        self.max_value = MAX_VALUE
        self._on_done = on_done
        self._clock_s = clock_s
        self._begun_s = clock_s()

    def put(self, work: Work) -> None:
        """Let `work` run as soon as a thread is free."""
        if self._waiting.empty():
            # It has not waited for anybody yet.
            self._begun_s = self._clock_s()
        self._waiting.put(work)

    def harvest(self) -> list[Work]:
        """Take what has run since the last call."""
        self._is_told = False
        finished = []
        while self._done:
            finished.append(self._done.popleft())
        return finished

    def withdraw(self) -> list[Work]:
        """Take back everything that no thread has begun."""
        taken = []
        while True:
            try:
                taken.append(self._waiting.get_nowait())
            except Empty:
                return taken

    def stalled_s(self) -> float:
        """Say for how many seconds no thread has begun anything although something waits."""
        return 0.0 if self._waiting.empty() else self._clock_s() - self._begun_s

    def take(self) -> Work:
        """Begin what has waited longest; waits for it."""
        work = self._waiting.get()
        work.begun_s = self._begun_s = self._clock_s()
        return work

    def run(self, work: Work) -> None:
        """Run what was begun, in the thread that calls."""
        work.outcome = run_sync(work.handler, work.payload, max_result_bytes=self.max_value)
        work.took_s = self._clock_s() - work.begun_s
        self._done.append(work)
        # One wake-up serves all that finish before it is answered.
        if not self._is_told:
            self._is_told = True
            self._on_done()

    def serve(self) -> None:
        """Run one after the other, for ever."""
        while True:
            self.run(self.take())
