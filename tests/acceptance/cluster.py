"""A server and its clients as processes, started by their installed commands from a folder of their own."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from dtm.core import auditline

T = TypeVar("T")

DEADLINE_S = 30.0
COMMAND_TIMEOUT_S = 120.0

LISTENING = r'listening.* "?address(?:=|": ")([^\s"]+)'
"""A line of a server's log, for people or for machines."""


class Process(Protocol):
    """A started program."""

    @property
    def pid(self) -> int:
        """Its number."""

    def poll(self) -> int | None:
        """Give its exit code, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and give its exit code."""

    def send_signal(self, number: int, /) -> None:
        """Send it a signal."""

    def kill(self) -> None:
        """End it at once."""


Spawn = Callable[[Sequence[str], Path, Path], Process]
"""Starts a command in a folder, its standard error going to a file."""


def popen(command: Sequence[str], folder: Path, log: Path) -> Process:
    """Start a command as anybody does."""
    with log.open("wb") as file:
        return subprocess.Popen(command, cwd=folder, stderr=file)


class Cluster:
    """The processes of one test; whatever still runs at its end is killed."""

    def __init__(self, bin_folder: Path, folder: Path, spawn: Spawn = popen) -> None:
        self._bin = bin_folder
        self._spawn = spawn
        self.folder = folder
        self.db = folder / "tasks.db"
        self.log = folder / "dead-letter-queue.log"
        self.address = ""
        self._processes: list[Process] = []
        self._started = 0

    # Servers and clients.

    def start_server(self, *options: str, port: str = "0") -> Process:
        """Start a server and wait until it listens."""
        process, log = self.start("dtm-server", "--db", "tasks.db", "--port", port, *options)
        found = self.eventually(
            "the server listens", lambda: re.search(LISTENING, log.read_text()), of=process, log=log
        )
        self.address = found[1]
        return process

    def restart_server(self, *options: str) -> Process:
        """Start a server on the address that the last one had."""
        return self.start_server(*options, port=self.address.rpartition(":")[2])

    def restart_unseen(self, *options: str) -> Process:
        """Start a server on that address and wait for nothing."""
        return self.start("dtm-server", "--db", "tasks.db", "--port", self.address.rpartition(":")[2], *options)[0]

    def start_client(self, name: str, *options: str) -> Process:
        """Start a worker and wait until the server knows it."""
        process, log = self.start("dtm-client", "--server", self.address, "--name", name, *options)
        self.eventually(f"{name} is registered", lambda: "registered" in log.read_text(), of=process, log=log)
        return process

    def start(self, program: str, *words: str) -> tuple[Process, Path]:
        """Start a program whose standard error goes to a file, and give both."""
        self._started += 1
        log = self.folder / f"{self._started:04}-{program}.log"
        process = self._spawn([str(self._bin / program), *words], self.folder, log)
        self._processes.append(process)
        return process, log

    def program(self, name: str) -> Path:
        """Give the installed command of that name."""
        return self._bin / name

    def logs(self) -> str:
        """Give everything that started programs have logged."""
        return "".join(log.read_text() for log in sorted(self.folder.glob("[0-9]*-*.log")))

    def kill_all(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            process.kill()
            process.wait(DEADLINE_S)

    # Commands.

    def client(self, *words: str, stdin: str = "", code: int = 0) -> str:
        """Run a command of dtm-client to its end, which must have the exit code `code`."""
        return self.finish("dtm-client", *words, "--server", self.address, stdin=stdin, code=code).stdout

    def admin(self, *words: str, code: int = 0) -> Any:
        """Run dtm-admin to its end, and give the JSON document it prints."""
        return json.loads(self.finish("dtm-admin", *words, "-o", "json", code=code).stdout)

    def finish(
        self, program: str, *words: str, stdin: str = "", code: int = 0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, which must have the exit code `code`."""
        done = subprocess.run(
            [self._bin / program, *words],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            env=env,
        )
        if done.returncode != code:
            pytest.fail(
                f"{program} {words}: wanted exit code {code}, got {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    # What has become of things.

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Read the database beside whoever writes it."""
        with closing(sqlite3.connect(f"file:{self.db}?mode=ro", uri=True)) as connection:
            return connection.execute(statement).fetchall()

    def audit_events(self) -> list[tuple[str, int]]:
        """Give event and task of each line of the dead-letter log, having checked that it equals the database."""
        lines = self.log.read_text(encoding="ascii").splitlines()
        assert lines == [line for (line,) in self.rows("SELECT line FROM audit ORDER BY seq")]
        assert [auditline.seq_of(line.encode()) for line in lines] == list(range(1, len(lines) + 1))
        return [(entry["event"], entry["task"]) for entry in map(json.loads, lines)]

    def check_books(self) -> None:
        """Check what must hold at every moment at which no transaction is open."""
        assert self.rows("PRAGMA integrity_check") == [("ok",)]
        counted = self.rows("SELECT kind, state, count(*) FROM tasks GROUP BY kind, state ORDER BY kind, state")
        assert self.rows("SELECT kind, state, tasks FROM counts WHERE tasks <> 0 ORDER BY kind, state") == counted
        twice = "SELECT task_id FROM assignments WHERE outcome = 'completed' GROUP BY task_id HAVING count(*) > 1"
        assert self.rows(twice) == []

    def eventually(
        self,
        what: str,
        look: Callable[[], T | None],
        *,
        of: Process | None = None,
        log: Path | None = None,
        within_s: float = DEADLINE_S,
    ) -> T:
        """Look until there is something to see; fail after a deadline, or when the process `of` has ended."""
        give_up_s = time.monotonic() + within_s
        while True:
            if found := look():
                return found
            ended = of is not None and of.poll() is not None
            if ended or time.monotonic() > give_up_s:
                pytest.fail(f"waited in vain: {what}\n{log.read_text() if log is not None else ''}")
            time.sleep(0.02)


def end(process: Process, number: signal.Signals = signal.SIGTERM) -> int:
    """End a process in good order and give its exit code."""
    process.send_signal(number)
    return process.wait(DEADLINE_S)


def kill(process: Process) -> None:
    """End a process at once, as `kill -9` does."""
    process.kill()
    process.wait(DEADLINE_S)
