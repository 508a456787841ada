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
        self.took_s = 0.0
        self.outcome: Outcome | None = None


class Slots:
    """A fixed number of threads, each running one task at a time."""

    def __init__(self, threads: int, on_done: Callable[[], object]) -> None:
        self._waiting: SimpleQueue[Work] = SimpleQueue()
        self._done: deque[Work] = deque()
        self._is_told = False
        self._on_done = on_done
        self._begun_s = time.perf_counter()
        for number in range(threads):
            threading.Thread(target=self._run, name=f"slot-{number}", daemon=True).start()

    def put(self, work: Work) -> None:
        """Let `work` run as soon as a thread is free."""
        if self._waiting.empty():
            # It has not waited for anybody yet.
            self._begun_s = time.perf_counter()
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
        return 0.0 if self._waiting.empty() else time.perf_counter() - self._begun_s

    def _run(self) -> None:
        while True:
            work = self._waiting.get()
            started_s = self._begun_s = time.perf_counter()
            work.outcome = run_sync(work.handler, work.payload, max_result_bytes=MAX_VALUE)
            work.took_s = time.perf_counter() - started_s
            self._done.append(work)
            # One wake-up serves all that finish before it is answered.
            if not self._is_told:
                self._is_told = True
                self._on_done()
