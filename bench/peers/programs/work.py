"""The work that every peer does: hash a short text. Each worker says when it began.

BENCH_SERVER is the address (or the file) of what the peer keeps its tasks in, BENCH_FOLDER a place for notes.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(os.environ["BENCH_FOLDER"])
SERVER = os.environ["BENCH_SERVER"]
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


def parts(tasks: int, size: int) -> Iterator[range]:
    """Cut the numbers 0 to `tasks` - 1 into ranges of at most `size`."""
    for first in range(0, tasks, size):
        yield range(first, min(first + size, tasks))
