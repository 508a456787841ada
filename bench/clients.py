"""What connected clients cost: a drain by 1 to 1,000 of them that all take part, and by one among so many idle ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.crowd import running_crowd
from bench.drain import draining
from bench.figures import Rate
from bench.process import Process
from bench.texts import KIND
from bench.workers import running_workers

COUNTS = (1, 10, 100, 1_000)
IDLE_KIND = "Idle"
# Of all clients together: what changes with their number is not how much they hold.
CAPACITY = 2_000


def measure(folder: Path, tasks: int) -> Iterator[Rate]:
    """Drain `tasks` tasks with so many clients, of which all or one has work."""
    for count in COUNTS:
        yield draining(f"{_named(count)} at work", folder / f"{count}", tasks, partial(_all_at_work, count))
    for count in COUNTS:
        yield draining(f"1 of {_named(count)} at work", folder / f"{count}-idle", tasks, partial(_one_at_work, count))


def _named(count: int) -> str:
    return f"{count:,} client{'s' if count > 1 else ''}"


@contextmanager
def _all_at_work(count: int, address: str, folder: Path) -> Iterator[list[Process]]:
    with running_crowd(address, folder, KIND, count=count, capacity=CAPACITY // count) as crowd:
        yield [crowd]


@contextmanager
def _one_at_work(count: int, address: str, folder: Path) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        if count > 1:
            stack.enter_context(running_crowd(address, folder, IDLE_KIND, count=count - 1, capacity=1))
        # A real dtm-client; the crowd's CPU is not counted.
        yield stack.enter_context(running_workers(address, folder, count=1))
