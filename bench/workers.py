"""Real dtm-client processes that run tasks with their built-in handlers and default settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.process import Process, running
from bench.texts import KIND


@contextmanager
def running_workers(address: str, folder: Path, *, count: int) -> Iterator[list[Process]]:
    """Run `count` client processes as long as the context lasts; it begins when all have registered."""
    command = ("dtm.cli.client", "work", "--server", address, "--kinds", KIND, "--log-format", "json")
    with ExitStack() as stack:
        workers = [
            stack.enter_context(running(command, folder / f"worker-{number}.log")) for number in range(1, count + 1)
        ]
        for worker in workers:
            worker.logged("registered")
        yield workers
