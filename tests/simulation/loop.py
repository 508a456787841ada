"""An event loop in made-up time: when nothing is ready, the clock jumps to the next timer.

Real asyncio and anyio code runs on it unchanged. Nothing in it depends on the real time, on addresses in memory or on
threads, so that one seed is one order of events. Run it with PYTHONHASHSEED set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from heapq import heappop
from math import inf
from typing import Any, Protocol, TypeVar

import anyio
from anyio._backends._asyncio import CancelScope

T = TypeVar("T")

MOST_STEPS = 2_000_000
"""Callbacks that one run may take; more of them are a loop that makes no progress."""


class Owner(Protocol):
    """Whose callback it is: a process, which may be stopped for a while."""

    is_frozen: bool
    held: list[asyncio.Handle]


OWNER: ContextVar[Owner | None] = ContextVar("OWNER", default=None)


class Stuck(Exception):
    """Nothing will ever happen again, or the same things for ever."""


class SimulatedTask(asyncio.Task[T]):
    """A task whose hash is its number: anyio keeps tasks in sets and goes through these to cancel them."""

    def __init__(self, coroutine: Generator[Any, Any, T] | Coroutine[Any, Any, T], number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(asyncio.BaseEventLoop):
    """No selector, no threads, no clock."""

    _ready: Any
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._steps = 0
        self._tasks = 0
        self.complaints: list[dict[str, Any]] = []
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]  # it cannot say: any T
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        """Give the made-up seconds since the start."""
        return self._now_s

    def _make_task(
        self, _: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], **options: Any
    ) -> asyncio.Task[T]:
        self._tasks += 1
        return SimulatedTask(coroutine, self._tasks, loop=self, **options)

    def _run_once(self) -> None:
        self._pass_time()
        ready = self._ready
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            owner = handle._context.get(OWNER)
            if owner is not None and owner.is_frozen:
                owner.held.append(handle)
            else:
                self._steps += 1
                handle._run()
        if self._steps > MOST_STEPS:
            raise Stuck(f"{self._steps:,} callbacks, and no end at {self._now_s:.3f} s")

    def _pass_time(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0].cancelled():
            heappop(scheduled)
        if not ready:
            if not scheduled or scheduled[0].when() == inf:
                raise Stuck(f"at {self._now_s:.3f} s everybody waits, and nothing is to come")
            self._now_s = max(self._now_s, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now_s:
            ready.append(heappop(scheduled))

    def thaw(self, owner: Owner) -> None:
        """Let what was held back of a stopped process happen now."""
        owner.is_frozen = False
        self._ready.extend(owner.held)
        owner.held.clear()

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector."""

    def run_in_executor(self, *_: Any) -> Any:  # type: ignore[override]
        """Refuse: a thread would bring real time in."""
        raise AssertionError("wanted everything on the simulated loop, found a thread")


def run(main: Callable[[SimulatedLoop], Awaitable[T]]) -> T:
    """Run `main` in a made-up time of its own until it ends."""
    # By its address, a scope in a set would be cancelled in another order in each run.
    by_address = CancelScope.__hash__
    CancelScope.__hash__ = _by_host_task  # type: ignore[method-assign,assignment]
    loop = SimulatedLoop()
    try:
        return anyio.run(main, loop, backend="asyncio", backend_options={"loop_factory": lambda: loop})
    finally:
        CancelScope.__hash__ = by_address  # type: ignore[method-assign]


def _by_host_task(scope: CancelScope) -> int:
    return hash(scope._host_task)
