"""The event loop of the programs: uvloop where it is installed, three times as fast as Python's own."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TypeVar

import anyio

T = TypeVar("T")

# A busy server makes thousands of values in each batch and drops them whole; none of them is part of a cycle.
# Python's own first threshold, 700, has it search among them all the time, and find nothing.
GC_THRESHOLDS = (50_000, 20, 100)


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` in an event loop of its own until it ends."""
    gc.freeze()  # what the imports made stays
    gc.set_threshold(*GC_THRESHOLDS)
    has_uvloop = find_spec("uvloop") is not None
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": has_uvloop})
