"""One thread that does one thing after another for the event loop.

A lane of its own costs half of what a hop into a pool of threads does, and nobody else's work stands in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar, TypeVarTuple, Unpack

from anyio import CancelScope

T = TypeVar("T")
A = TypeVarTuple("A")


class Lane:
    """A thread for the event loop that makes it; it lasts as long as the context."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, name="lane")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._waiting.put(None)
        self._thread.join()

    async def __call__(self, work: Callable[[Unpack[A]], T], /, *args: *A) -> T:
        """Wait for what `work` returns or raises; once put in, it is waited for, whatever scope is cancelled."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.put((partial(work, *args), future))
        with CancelScope(shield=True):
            await future
        return future.result()

    def _serve(self) -> None:
        while (item := self._waiting.get()) is not None:
            work, future = item
            try:
                settle = partial(future.set_result, work())
            except StopIteration as error:
                # A future takes any other: this one would end the coroutine that waits.
                settle = partial(future.set_exception, RuntimeError(f"the work raised {error!r}"))
            except BaseException as error:  # noqa: BLE001  it is raised where the work was asked for
                settle = partial(future.set_exception, error)
            self._loop.call_soon_threadsafe(_settle, future, settle)
            del item, work, future, settle


def _settle(future: asyncio.Future[Any], settle: Callable[[], None]) -> None:
    if not future.cancelled():
        settle()
