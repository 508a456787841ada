"""Tasks as users write them, for the tests that run them for real."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import dtm

app = dtm.App()


@dataclass
class Size:
    """A dataclass."""

    width: int
    height: int = 1


class Sour(OSError):
    """An error of the tasks' own."""


@app.task
def area(size: Size, factor: int = 1) -> int:
    """Compute something, in a thread."""
    return size.width * size.height * factor


@app.task
async def greet(name: str) -> str:
    """Compute something, in the event loop."""
    await asyncio.sleep(0)
    return f"hello, {name}"


@app.task(max_retries=2, retry=dtm.Constant(0.01))
def fail(message: str) -> None:
    """Fail."""
    raise Sour(message)


@app.task
async def wait(seconds: float) -> int:
    """Wait, telling how far it is."""
    dtm.current().progress(0.5, "half way")
    await asyncio.sleep(seconds)
    return dtm.current().attempt


@app.task
def lie() -> int:
    """Return something else than it says."""
    return "seven"  # type: ignore[return-value]


@app.task
def sleepy(seconds: float) -> None:
    """Wait, in a thread."""
    time.sleep(seconds)


@app.task(unique="args")
def single(number: int, more: int = 1) -> int:
    """Be one at a time."""
    return number + more


@app.task
def snooze_once(at: float) -> int:
    """Be put off until an instant."""
    if time.time() < at:
        raise dtm.Snooze(0.05)
    return dtm.current().attempt


@app.task(executor="process")
def relay(name: str) -> str:
    """Have another task do it, from a process."""
    return greet.sync.submit(name).result("1m")
