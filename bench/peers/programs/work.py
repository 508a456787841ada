"""The work that every peer does: hash a short text. Each worker says when it began.

BENCH_SERVER is the address (or the file) of what the peer keeps its tasks in, BENCH_FOLDER a place for notes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

FOLDER = Path(os.environ["BENCH_FOLDER"])
SERVER = os.environ["BENCH_SERVER"]
RESULTS = FOLDER / "results"
POLL_S = 0.001

# In each worker process on its own, with fork and without: whoever finds his number missing has just begun.
_began: set[int] = set()


def text(number: int) -> str:
    """Give the text of a task."""
    return f"text {number}"


def task_id(number: int) -> str:
    """Give a task the name by which its result is found again."""
    return f"bench-{number}"


def hash_text(text: str) -> str:
    """Give the SHA-256 of `text`; the first call of a process notes when it was."""
    if (pid := os.getpid()) not in _began:
        _began.add(pid)
        (FOLDER / f"began-{pid}").write_text(repr(time.monotonic()))
    return hashlib.sha256(text.encode()).hexdigest()


def record(number: int, digest: str) -> None:
    """Append a result to a file, for a peer that keeps none; nobody waits until the disk has it."""
    os.write(_results(), f"{number} {digest}\n".encode())


def recorded() -> int:
    """Count the results in the file."""
    return RESULTS.read_bytes().count(b"\n") if RESULTS.exists() else 0


def read_recorded(tasks: int) -> list[str | None]:
    """Read the results of tasks number 0 to `tasks` - 1 from the file."""
    found = _read()
    return [found.get(number) for number in range(tasks)]


async def await_recorded(number: int) -> str:
    """Look into the file until a result is there."""
    while number not in (found := _read()):  # noqa: ASYNC110, a file tells of nothing by an event
        await asyncio.sleep(POLL_S)
    return found[number]


def _read() -> dict[int, str]:
    if not RESULTS.exists():
        return {}
    lines = (line.split() for line in RESULTS.read_text().splitlines())
    return {int(number): digest for number, digest in lines}


@cache
def _results() -> int:
    return os.open(RESULTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def parts(tasks: int, size: int) -> Iterator[range]:
    """Cut the numbers 0 to `tasks` - 1 into ranges of at most `size`."""
    for first in range(0, tasks, size):
        yield range(first, min(first + size, tasks))
