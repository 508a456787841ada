"""Waiting for the thing itself, with a deadline; never for a length of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import anyio

T = TypeVar("T")

LONG_S = 10.0
"""Longer than anything here takes on a busy machine; whoever waits so long has found a defect."""

_LOOK_EVERY_S = 0.005


async def eventually(condition: Callable[[], T | None], *, within_s: float = LONG_S) -> T:
    """Give the first true value of `condition`; fail if there is none in time."""
    deadline_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"still {found!r} after {within_s:g} s"
        await anyio.sleep(_LOOK_EVERY_S)
    return found


def in_the_end(condition: Callable[[], T | None], *, within_s: float = LONG_S) -> T:
    """Do the same without an event loop."""
    deadline_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"still {found!r} after {within_s:g} s"
        time.sleep(_LOOK_EVERY_S)
    return found
