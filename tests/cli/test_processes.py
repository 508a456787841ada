"""The supervisor: real processes, started, started again and ended together."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from anyio import Event, create_task_group
from structlog.testing import capture_logs
from structlog.typing import EventDict

from dtm.cli.processes import Supervisor
from tests.waiting import eventually

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


def python(script: str, *arguments: object) -> Sequence[str]:
    """Write the command of a small process."""
    return [sys.executable, "-S", "-E", "-c", f"import os, sys, time; {script}", *map(str, arguments)]


NOTE = "open(sys.argv[1], 'a').write(f'{os.getpid()}\\n');"
UNTIL_EOF = f"{NOTE} sys.stdin.read()"


class Running:
    """A supervisor at work."""

    def __init__(self, events: list[EventDict]) -> None:
        self.events = events
        self.stop = Event()
        self.now = Event()
        self.failed: int | None = None

    async def run(self, commands: Sequence[Sequence[str]]) -> None:
        """Run."""
        self.failed = await Supervisor(random.Random(1)).run(commands, self.stop, self.now)

    async def ended(self, *, within_s: float = 5) -> int:
        """Wait for the end, and give how many did not end well."""
        await eventually(lambda: self.failed is not None, within_s=within_s)
        assert self.failed is not None
        return self.failed

    @property
    def died(self) -> list[int]:
        """Give the exit codes of those that died."""
        return [event["code"] for event in self.events if event["event"] == "process.died"]


@asynccontextmanager
async def supervising(*commands: Sequence[str]) -> AsyncIterator[Running]:
    """Supervise as long as the context lasts."""
    with capture_logs() as events:
        running = Running(events)
        async with create_task_group() as group:
            group.start_soon(running.run, commands)
            yield running
            running.stop.set()
            running.now.set()


def pids(note: Path) -> list[int]:
    """Say which processes have begun, so far."""
    return [int(line) for line in note.read_text().splitlines()] if note.exists() else []


async def begun(note: Path, count: int) -> list[int]:
    """Wait until so many processes have begun."""
    await eventually(lambda: len(pids(note)) >= count)
    return pids(note)


def is_alive(pid: int) -> bool:
    """Say whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_all_run_until_they_are_told_to_stop(tmp_path: Path) -> None:
    """By the end of their standard input; then they have ended well."""
    note = tmp_path / "note"
    async with supervising(*[python(UNTIL_EOF, note)] * 3) as running:
        found = await begun(note, 3)
        assert all(is_alive(pid) for pid in found)
        running.stop.set()

        assert await running.ended() == 0
        assert not any(is_alive(pid) for pid in found)
        assert running.died == []


async def test_one_that_was_killed_is_started_again(tmp_path: Path) -> None:
    """It alone, after a pause; then both end well."""
    note = tmp_path / "note"
    async with supervising(*[python(UNTIL_EOF, note)] * 2) as running:
        first, second = await begun(note, 2)
        os.kill(first, signal.SIGKILL)
        *_, third = await begun(note, 3)
        assert is_alive(second)
        assert is_alive(third)
        running.stop.set()

        assert await running.ended() == 0
        assert running.died == [-signal.SIGKILL]


async def test_one_that_dies_again_and_again_is_started_more_and_more_slowly(tmp_path: Path) -> None:
    """It must not keep the machine busy."""
    note = tmp_path / "note"
    async with supervising(python(f"{NOTE} sys.exit(3)", note)) as running:
        await eventually(lambda: len(running.died) >= 2)
        pauses = [event["restart_in_s"] for event in running.events]

        assert running.died[:2] == [3, 3]
        assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1.0


async def test_one_that_ends_well_by_itself_is_not_started_again(tmp_path: Path) -> None:
    """Somebody told it to end."""
    note = tmp_path / "note"
    async with supervising(python(NOTE, note)) as running:
        assert await running.ended() == 0
        assert len(pids(note)) == 1


async def test_a_stop_does_not_wait_for_one_that_is_to_be_started_again(tmp_path: Path) -> None:
    """It is not started for nothing, either; it has not ended well."""
    note = tmp_path / "note"
    async with supervising(python(f"{NOTE} sys.exit(3)", note)) as running:
        await eventually(lambda: len(running.died) >= 2)
        count = len(pids(note))
        asked_s = time.monotonic()
        running.stop.set()

        assert await running.ended() == 1
        assert time.monotonic() - asked_s < 0.4
        assert len(pids(note)) == count


async def test_one_that_does_not_end_is_killed_when_told_twice(tmp_path: Path) -> None:
    """Not before: it may have work to finish."""
    note = tmp_path / "note"
    async with supervising(python(f"{NOTE} time.sleep(60)", note), python(UNTIL_EOF, note)) as running:
        found = await begun(note, 2)
        running.stop.set()
        await eventually(lambda: sum(is_alive(pid) for pid in found) == 1)
        assert running.failed is None
        running.now.set()

        assert await running.ended() == 1
        assert not any(is_alive(pid) for pid in found)


async def test_ctrl_c_on_the_terminal_does_not_reach_them(tmp_path: Path) -> None:
    """They stand in sessions of their own: the supervisor decides what becomes of them."""
    note = tmp_path / "note"
    async with supervising(python(UNTIL_EOF, note)):
        (pid,) = await begun(note, 1)

        assert os.getsid(pid) == pid != os.getsid(0)
