"""Signals as events and calls.

Of Ctrl-C and SIGTERM the first asks for an orderly end, the second for an end now. SIGHUP, which daemons take for
"look at your files again", calls whoever wants it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from anyio import Event

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()


@contextmanager
def stop_events() -> Iterator[tuple[Event, Event]]:
    """Give two events; the first signal sets the first of them, the next signal the second.

    Python's own handlers rather than the event loop's, which Windows does not have.
    """
    first, second = Event(), Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        (second if first.is_set() else first).set()

    with _handling(_SIGNALS, lambda: loop.call_soon_threadsafe(stop)):
        yield first, second


@contextmanager
def on_hangup(call: Callable[[], None]) -> Iterator[None]:
    """Have the event loop call `call` at each SIGHUP; Windows has none."""
    loop = asyncio.get_running_loop()
    with _handling(_HANGUP, lambda: loop.call_soon_threadsafe(call)):
        yield


@contextmanager
def _handling(numbers: Sequence[signal.Signals], act: Callable[[], object]) -> Iterator[None]:
    earlier = {number: signal.signal(number, lambda *_: act()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
