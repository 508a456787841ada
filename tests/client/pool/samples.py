"""What the processes of the tests run: they import it from here."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import structlog

from dtm.client.current import current
from dtm.client.handlers import Handler, registry
from dtm.client.verdicts import Reject, Retry, Snooze
from tests.waiting import LONG_S

SOURCE = "tests.client.pool.samples:HANDLERS"

log = structlog.get_logger("samples")


def echo(payload: Any) -> Any:
    """Return what came."""
    return payload


def whoami(_: object) -> list[Any]:
    """Tell who runs it, and what is known of the task."""
    return [os.getpid(), current().id, current().kind, current().attempt]


_SEEN: ContextVar[int] = ContextVar("seen", default=0)


def count(_: object) -> list[int]:
    """Count the tasks that have run in this context, and tell in which process."""
    _SEEN.set(_SEEN.get() + 1)
    return [os.getpid(), _SEEN.get()]


async def await_count(_: object) -> list[int]:
    """Do the same in an event loop."""
    return count(_)


async def await_echo(payload: Any) -> Any:
    """Return what came, after a while."""
    await asyncio.sleep(0.001)
    return [payload, current().kind]


def fail(_: object) -> None:
    """Fail, of something."""
    try:
        raise KeyError("cause")
    except KeyError as error:
        raise ConnectionResetError("boom") from error


def verdict(name: str) -> None:
    """Say how the task goes on."""
    raise {"reject": Reject("never"), "retry": Retry("90s", "later"), "snooze": Snooze("10m")}[name]


def sleep(folder: str) -> None:
    """Sleep for longer than anybody waits, and clean up."""
    Path(folder, "begun").write_text(str(os.getpid()))
    try:
        time.sleep(3 * LONG_S)
    finally:
        Path(folder, "cleaned").touch()


async def await_sleep(folder: str) -> None:
    """Do the same in an event loop."""
    Path(folder, "begun").write_text(str(os.getpid()))
    try:
        await asyncio.sleep(3 * LONG_S)
    finally:
        Path(folder, "cleaned").touch()


def deaf(folder: str) -> None:
    """Sleep in C code that lets no other thread run."""
    Path(folder, "begun").write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(60)


def stubborn(folder: str) -> None:
    """Sleep, start something that sleeps too, and take no notice of anybody."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    other = subprocess.Popen([sys.executable, "-c", "import time, signal; signal.signal(15, 1); time.sleep(60)"])
    Path(folder, "begun").write_text(f"{os.getpid()} {other.pid}")
    other.wait()


def end(how: list[Any]) -> None:
    """Let the process end in the middle of its task."""
    print("last words", flush=True)  # noqa: T201  as tasks do
    match how:
        case ["exit", code]:
            os._exit(code)
        case ["signal", number]:
            os.kill(os.getpid(), number)
        case ["leave", code]:
            sys.exit(code)
    ctypes.string_at(0)


def interrupt(_: object) -> None:
    """Be interrupted, as by Ctrl-C."""
    signal.raise_signal(signal.SIGINT)
    time.sleep(3 * LONG_S)


async def await_interrupt(_: object) -> None:
    """Raise what Ctrl-C raises, in an event loop."""
    raise KeyboardInterrupt


def hoard(mebibytes: int) -> None:
    """Take more memory than there is."""
    resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))
    bytearray(mebibytes << 21)


def talk(_: object) -> str:
    """Print, log and warn."""
    print("printed")  # noqa: T201
    sys.stderr.write("complained\n")
    os.write(1, b"from C\n")
    log.info("structured", width=3, odd=Path("a"), text="x")
    logging.getLogger("samples.own").warning("plain %d", 7)
    logging.getLogger("samples.own").debug("chatter")
    warnings.warn("old", stacklevel=1)
    try:
        raise ValueError("logged")
    except ValueError:
        log.exception("trouble")
    print("no end of line", end="")  # noqa: T201
    return "said"


def progress(count: int) -> None:
    """Tell of many steps."""
    for step in range(count + 1):
        current().progress(step / count, f"step {step}")


HANDLERS = registry(
    *(
        Handler(function.__name__, function, executor="process", source=SOURCE)
        for function in (
            echo,
            whoami,
            await_echo,
            count,
            await_count,
            fail,
            verdict,
            sleep,
            await_sleep,
            stubborn,
            deaf,
            end,
            interrupt,
            await_interrupt,
            hoard,
            talk,
            progress,
        )
    ),
    Handler("typed", echo, payload_type=list[int], executor="process", source=SOURCE),
)
