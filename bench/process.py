"""A program in a process of its own: started, watched, measured, and ended by its own number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

TOP = Path(__file__).parents[1]
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
LOOK_S = 0.05
# A start takes less than a second; it is looked at more often.
START_LOOK_S = 0.005

T = TypeVar("T")


class Failed(Exception):
    """A program did not do what the benchmark needs; its figure would mean nothing."""


class Usage(Struct, frozen=True):
    """What processes have used since they were started."""

    cpu_s: float
    memory_bytes: int
    peak_bytes: int


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[Process]:
    """Run `python -m COMMAND`, its output going to `log`, as long as the context lasts."""
    with running_program((sys.executable, "-m", *command), log) as process:
        yield process


@contextmanager
def running_program(
    command: Sequence[str],
    log: Path,
    *,
    folder: Path = TOP,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[Process]:
    """Run a program in `folder` as long as the context lasts; with what it has started itself it ends by `stop`."""
    with log.open("wb") as file:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            # A group of its own, so that nothing which it leaves behind outlives it.
            start_new_session=True,
        )
    try:
        yield Process(child, log)
    finally:
        child.send_signal(stop)
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


class Process:
    """A running program that logs JSON lines."""

    def __init__(self, child: subprocess.Popen[bytes], log: Path) -> None:
        self._child = child
        self._log = log

    def logged(self, event: str) -> dict[str, Any]:
        """Wait until the log holds `event`, and give the values of its line.

        Raises:
            Failed: it never came.
        """
        return self.wait_for(
            lambda: _find(event, self._log), f"log {event!r}", timeout_s=START_TIMEOUT_S, look_s=START_LOOK_S
        )

    def wait_for(self, look: Callable[[], T | None], what: str, *, timeout_s: float, look_s: float = LOOK_S) -> T:
        """Look every `look_s` seconds until `look` gives something.

        Raises:
            Failed: the program ended before that, or the time did.
        """
        deadline_s = time.monotonic() + timeout_s
        while (found := look()) is None:
            self.require_running()
            if time.monotonic() > deadline_s:
                raise Failed(f"wanted {self._log.stem} to {what} within {timeout_s:g} s:\n{self._log.read_text()}")
            time.sleep(look_s)
        return found

    def kill(self) -> None:
        """End the program as a crash would."""
        self._child.kill()
        self._child.wait()

    def require_running(self) -> None:
        """See that the program is still there.

        Raises:
            Failed: it has ended.
        """
        if self._child.poll() is not None:
            raise Failed(f"wanted {self._log.stem} to run, but it has ended:\n{self._log.read_text()}")

    def usage(self) -> Usage | None:
        """Say what the program has used so far; None where there is no Linux to ask."""
        proc = Path(f"/proc/{self._child.pid}")
        try:
            ticks = (proc / "stat").read_text().rpartition(")")[2].split()[11:13]
            status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        except OSError:
            return None
        cpu_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        return Usage(cpu_s, memory_bytes=_bytes(status["VmRSS"]), peak_bytes=_bytes(status["VmHWM"]))

    def require_usage(self) -> Usage:
        """Say what the program has used so far.

        Raises:
            Failed: there is no Linux to ask.
        """
        usage = self.usage()
        if usage is None:
            raise Failed("wanted to read memory and CPU from /proc, which this system does not have")
        return usage


def _bytes(kibibytes: str) -> int:
    return int(kibibytes.split(maxsplit=1)[0]) * 1024


def _find(event: str, log: Path) -> dict[str, Any] | None:
    for line in log.read_bytes().splitlines():
        try:
            values: dict[str, Any] = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue  # not yet written to its end
        if values["event"] == event:
            return values
    return None
