"""A process that has the product's programs imported and forks one in milliseconds, where a start takes an import.

What it forks is the real program, from its command line on: `kill -9` meets it as it meets any other.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn

from dtm.cli.client import main as client
from dtm.cli.server import main as server

# Imported by the programs only once they run; here, it is imported once for all.
with suppress(ImportError):
    import uvloop  # noqa: F401

PROGRAMS = {"dtm-server": server, "dtm-client": client}
LOOK_EVERY_S = 0.002


class Nursery:
    """The driver's side: it orders, and the process carries out."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def spawn(self, command: Sequence[str], folder: Path, log: Path) -> Child:
        """Fork a program; its name is the last part of the command's first word."""
        log.touch()
        return Child(self, self.ask("start", list(command), str(folder), str(log)))

    def ask(self, *order: object) -> Any:
        """Have an order carried out, and give the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it; it kills what it has forked and what still runs."""
        with self._process:
            pass


class Child:
    """A forked program."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self._nursery = nursery
        self._code: int | None = None

    def poll(self) -> int | None:
        """Give its exit code, None while it runs."""
        if self._code is None:
            self._code = self._nursery.ask("poll", self.pid)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and give its exit code.

        Raises:
            subprocess.TimeoutExpired: it did not come in time.
        """
        give_up_s = time.monotonic() + (timeout or 0)
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() > give_up_s:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(LOOK_EVERY_S)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal; the process number is its own until `poll` has told of its end."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


# The process's side.


def _start(command: list[str], folder: str, log: str) -> int:
    pid = os.fork()
    if pid == 0:
        _become(command, folder, log)
    _running.add(pid)
    return pid


def _poll(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        return None
    _running.discard(pid)
    return os.waitstatus_to_exitcode(status)


_running: set[int] = set()
_DOES: dict[str, Callable[..., object]] = {"start": _start, "poll": _poll}


def _become(command: list[str], folder: str, log: str) -> NoReturn:
    code = 1
    try:
        os.chdir(folder)
        _redirect(os.devnull, os.O_RDONLY, 0)
        _redirect(os.devnull, os.O_WRONLY, 1)
        _redirect(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 2)
        sys.argv = [Path(command[0]).name, *command[1:]]
        PROGRAMS[sys.argv[0]]()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _redirect(path: str, flags: int, descriptor: int) -> None:
    opened = os.open(path, flags, 0o644)
    os.dup2(opened, descriptor)
    os.close(opened)


def _serve() -> None:
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        sys.stdout.write(json.dumps(_DOES[name](*arguments)) + "\n")
        sys.stdout.flush()
    for pid in _running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _serve()
