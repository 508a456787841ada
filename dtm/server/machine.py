"""What a server needs of the machine it runs on: time, chance, threads and an address to listen at.

The only place that names the real ones; everything else gets them as arguments.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar, TypeVarTuple, Unpack

from anyio import CapacityLimiter, to_thread
from msgspec import Struct

from dtm.server.clock import Clock
from dtm.server.lane import Lane
from dtm.server.listener import Listener, listen

T = TypeVar("T")
A = TypeVarTuple("A")


class InThread(Protocol):
    """A way to let a function run without holding up the event loop: `anyio.to_thread.run_sync`."""

    async def __call__(self, work: Callable[[Unpack[A]], T], /, *args: *A, limiter: CapacityLimiter | None = None) -> T:
        """Wait for what `work` returns; `limiter` bounds how many run at once."""


class InOrder(Protocol):
    """A way to let functions run one after another without holding up the event loop."""

    async def __call__(self, work: Callable[[Unpack[A]], T], /, *args: *A) -> T:
        """Wait for what `work` returns."""


class Machine(Struct, frozen=True):
    """Where a server runs."""

    clock: Clock
    chance: random.Random
    in_thread: InThread
    lane: Callable[[], AbstractContextManager[InOrder]]
    listen: Callable[[str, int], Awaitable[Sequence[Listener]]]


def this_machine() -> Machine:
    """Give the real one."""
    return Machine(Clock.start(time.time_ns, time.monotonic), random.Random(), to_thread.run_sync, Lane, listen)
