"""The processes of a pool: started when they are needed, used again and again, replaced when they had to be ended.

Knows no server and no slots: there are as many as ever ran at once.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from dtm.client.handlers import Outcome, unsuccessful
from dtm.client.origin import UNKNOWN, Origin
from dtm.client.pool.process import PoolProcess
from dtm.client.work import Work

# How long the end waits for the threads that follow the processes; without them these end with the client.
_CLOSE_S = 1.0
_LOOK_S = 0.01


class Processes:
    """A pool of processes; each task that runs here takes one, in the thread that calls `run`.

    The tasks come from `origin`, which their own code may want to know.
    """

    def __init__(self, origin: Origin = UNKNOWN) -> None:
        self._origin = origin
        self._idle: deque[PoolProcess] = deque()
        self._busy: set[PoolProcess] = set()
        self._is_closed = False
        self._taking = threading.Lock()

    def run(self, work: Work, *, max_value: int) -> Outcome:
        """Run `work` in a process of its own for so long; whatever becomes of the process, there is an outcome.

        On Linux a process ends with the thread that has started it, which should live as long as the pool.
        """
        try:
            work.handler.before()
            process = self._take()
        except Exception as error:  # noqa: BLE001  a handler must not end the client
            return unsuccessful(error)
        try:
            return process.run(work, max_value=max_value)
        finally:
            self._give_back(process)

    def close(self) -> None:
        """Kill what runs, and end what does not."""
        with self._taking:
            self._is_closed = True
            for process in self._busy:
                process.kill_soon()
        give_up_s = time.monotonic() + _CLOSE_S
        while self._busy and time.monotonic() < give_up_s:
            time.sleep(_LOOK_S)
        while self._idle:
            self._idle.pop().end()

    def _take(self) -> PoolProcess:
        with self._taking:
            process = self._usable() or PoolProcess(self._origin)
            self._busy.add(process)
            if self._is_closed:
                process.kill_soon()
            return process

    def _usable(self) -> PoolProcess | None:
        while self._idle:
            # The last that was used: what it has in its caches is still warm.
            process = self._idle.pop()
            if process.is_usable:
                return process
            process.end()
        return None

    def _give_back(self, process: PoolProcess) -> None:
        with self._taking:
            if process.is_usable and not self._is_closed:
                self._idle.append(process)
            else:
                process.end()
            self._busy.discard(process)
