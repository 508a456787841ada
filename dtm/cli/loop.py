"""The event loop of the programs: uvloop where it is installed, three times as fast as Python's own."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TypeVar

import anyio

T = TypeVar("T")

# A busy server makes thousands of values in each batch and drops them whole; hardly any is part of a cycle. With
# Python's own first threshold, 700, it would search among them all the time: a tenth of its CPU.
_GC_THRESHOLDS = (50_000, 20, 100)


def collect_rarely() -> None:
    """Let the garbage collector rest, in a program whose values mostly die by themselves."""
    gc.freeze()  # what the imports made stays
    gc.set_threshold(*_GC_THRESHOLDS)


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` in an event loop of its own until it ends."""
    has_uvloop = find_spec("uvloop") is not None
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": has_uvloop})
