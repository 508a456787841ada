"""The event loop that runs coroutines: in a thread of its own, so that one that blocks it stops no ping to the server.

Knows no server and no slots: whoever starts a coroutine learns when it has ended.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio import CancelledError
from collections.abc import Callable
from functools import partial

from dtm.client.current import running
from dtm.client.failures import failure
from dtm.client.handlers import Outcome, Returned, run_async
from dtm.client.work import Work

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop  # type: ignore[assignment]

# How long the end waits for coroutines to end: whoever takes its cancellation is done with it in a moment.
CLOSE_S = 1.0


class Coroutines:
    """Runs tasks in an event loop, which lives in a daemon thread from the first task on.

    `on_end` is called in that thread, for each task once.
    """

    def __init__(self, on_end: Callable[[Work], None]) -> None:
        self._on_end = on_end
        self._tasks: dict[Work, asyncio.Task[Outcome]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="coroutines", daemon=True)
        self._beginning = threading.Lock()
        self._is_closed = False

    def start(self, work: Work, *, max_value: int) -> None:
        """Run `work`; may be called in any thread."""
        with self._beginning:
            if self._loop is None:
                self._loop = new_event_loop()
                self._thread.start()
        self._loop.call_soon_threadsafe(self._start, work, max_value)

    def stop(self, work: Work) -> None:
        """Cancel `work`, which has been asked to stop, if it runs; may be called in any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, work)

    def close(self) -> None:
        """Cancel what runs, and end the loop; whoever does not end by then is left alone, and ends with the process."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end_all)
            self._thread.join(2 * CLOSE_S)

    def _serve(self) -> None:
        loop = self._loop
        assert loop is not None
        while True:
            try:
                loop.run_forever()
                break
            except (SystemExit, KeyboardInterrupt):
                # Out of a task that a handler has begun itself, whose awaiter hears of it too. The others go on.
                continue
        # That a task goes with its loop because it would not end is nothing that anybody can mend here.
        loop.set_exception_handler(lambda *_: None)
        loop.close()

    def _start(self, work: Work, max_value: int) -> None:
        assert self._loop is not None
        if work.stop_reason is not None:
            self._end(work, Returned())
            return
        task = self._tasks[work] = self._loop.create_task(_outcome(work, max_value), name=f"task-{work.task_id}")
        timer = None if work.timeout_s is None else self._loop.call_later(work.timeout_s, self._time_out, work)
        task.add_done_callback(partial(self._end_task, work, timer))

    def _time_out(self, work: Work) -> None:
        work.ask_to_stop("timeout")
        self._cancel(work)

    def _cancel(self, work: Work) -> None:
        task = self._tasks.get(work)
        if task is not None:
            task.cancel()

    def _end_task(self, work: Work, timer: asyncio.TimerHandle | None, task: asyncio.Task[Outcome]) -> None:
        del self._tasks[work]
        if timer is not None:
            timer.cancel()
        # Cancelled before its first step, it has not got as far as to an outcome.
        self._end(work, Returned() if task.cancelled() else task.result())
        if self._is_closed and not self._tasks:
            task.get_loop().stop()

    def _end(self, work: Work, outcome: Outcome) -> None:
        work.end(outcome)
        self._on_end(work)

    def _end_all(self) -> None:
        assert self._loop is not None
        self._is_closed = True
        for task in self._tasks.values():
            task.cancel()
        self._loop.call_later(CLOSE_S if self._tasks else 0, self._loop.stop)


async def _outcome(work: Work, max_value: int) -> Outcome:
    with running(work.current):
        try:
            return await run_async(work.handler, work.payload, max_result_bytes=max_value)
        except CancelledError as error:
            # If nobody has asked for it, the handler has done it to itself.
            return failure(error, retry=True)
