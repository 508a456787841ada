"""A worker whose handlers run in all three ways. It is copied beside a test's server, and run by the installed Python.

python crew.py ADDRESS
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import sys
import time
from pathlib import Path

from dtm.cli.logs import configure_logging
from dtm.cli.loop import run
from dtm.cli.signals import stop_events
from dtm.client.current import current
from dtm.client.dial import dial
from dtm.client.handlers import Handler, registry
from dtm.client.prefetch import FixedPrefetch
from dtm.client.slots import threads
from dtm.client.worker import Worker, WorkerSettings
from dtm.security.credentials import NO_CREDENTIALS

SOURCE = "crew:HANDLERS"
FOREVER_S = 600


async def wait(name: str) -> None:
    """Wait as a coroutine; note the moments of beginning and end."""
    _note(name, "begun")
    try:
        await asyncio.sleep(FOREVER_S)
    finally:
        _note(name, "ended")


def sleep(name: str) -> None:
    """Wait in a process."""
    current().progress(0.5, "half asleep")
    _note(name, "begun")
    try:
        time.sleep(FOREVER_S)
    finally:
        _note(name, "ended")


def look(name: str) -> None:
    """Wait in a thread, which looks whether it is asked to stop."""
    _note(name, "begun")
    while not current().cancel_requested:
        time.sleep(0.005)
    _note(name, "ended")
    raise InterruptedError("asked to stop")


def hang(name: str) -> None:
    """Wait in a thread, and look for nothing."""
    _note(name, "begun")
    time.sleep(FOREVER_S)


def crash(_: object) -> None:
    """End by a signal."""
    ctypes.string_at(0)


def leave(code: int) -> None:
    """End by oneself."""
    os._exit(code)


def add(numbers: list[int]) -> int:
    """Do what can be done in a moment."""
    return sum(numbers)


HANDLERS = registry(
    Handler("wait", wait, str),
    Handler("look", look, str),
    Handler("hang", hang, str),
    *(
        Handler(function.__name__, function, payload_type, executor="process", source=SOURCE)
        for function, payload_type in ((sleep, str), (crash, object), (leave, int), (add, list[int]))
    ),
)


def _note(name: str, what: str) -> None:
    draft = Path(f"{name}.{what}.draft")
    draft.write_text(f"{time.time()} {os.getpid()}")
    draft.rename(f"{name}.{what}")


async def _work(host: str, port: int) -> None:
    settings = WorkerSettings(host=host, port=port, name="crew", concurrency=4, shutdown_timeout_s=30.0)
    with stop_events() as (stop, now):
        await Worker(
            settings,
            HANDLERS,
            FixedPrefetch(0),
            connect=dial(NO_CREDENTIALS),
            slots=threads,
            chance=random.Random(),
        ).run(stop, now)


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    configure_logging("json", "info")
    run(lambda: _work(host, int(port)))
