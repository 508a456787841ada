"""Ctrl-C and SIGTERM as events: the first asks for an orderly end, the second for an end now."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from anyio import Event

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_events() -> Iterator[tuple[Event, Event]]:
    """Give two events; the first signal sets the first of them, the next signal the second.

    Python's own handlers rather than the event loop's, which Windows does not have.
    """
    first, second = Event(), Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        (second if first.is_set() else first).set()

    earlier = {number: signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop)) for number in _SIGNALS}
    try:
        yield first, second
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
