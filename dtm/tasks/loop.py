"""An event loop in a thread of its own, for those who cannot await.

Knows no app and no connection.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Loop:
    """The loop and the thread, from now until `end`; what was begun before that is run to its end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Event()
        # Made here, so that whoever calls hears of it if it cannot be.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        # A daemon: Python waits for others before it calls what is registered for its exit.
        self._thread = threading.Thread(target=self._serve, name="dtm-sync", daemon=True)
        self._thread.start()

    def begin(self, work: Callable[[], Awaitable[T]]) -> Future[T]:
        """Let `work` run, and give what will have its result; waits for nothing, and may be called in any thread."""
        future: Future[T] = Future()
        self._loop.call_soon_threadsafe(self._begin, work, future)
        return future

    def end(self) -> None:
        """Wait until everything has run, and end the thread; to be called once, and nothing can be begun any more."""
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def _begin(self, work: Callable[[], Awaitable[Any]], future: Future[Any]) -> None:
        task = self._loop.create_task(_deliver(work, future))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _serve(self) -> None:
        with self._runner:
            life = self._loop.create_task(self._live())
            while not life.done():
                # What an item of somebody's raises is his; the others go on.
                with suppress(SystemExit, KeyboardInterrupt):
                    self._loop.run_until_complete(life)

    async def _live(self) -> None:
        await self._ending.wait()
        while self._tasks:
            await asyncio.wait(self._tasks)


async def _deliver(work: Callable[[], Awaitable[Any]], future: Future[Any]) -> None:
    try:
        future.set_result(await work())
    except BaseException as error:  # noqa: BLE001  it is another thread's, and would end the loop for all of them
        future.set_exception(error)
