"""How fast tasks come in: one producer submits them all, and nobody runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import floor, ledger, submitter
from bench.figures import Rate, us_per_task
from bench.server import running_server


def measure(folder: Path, tasks: int) -> Iterator[Rate]:
    """Submit `tasks` tasks."""
    with running_server(folder) as server:
        before = server.process.usage()
        seconds = submitter.submit(server.address, tasks, follow=False)
        after = server.process.usage()
    with ledger.reading(server.db) as connection:
        ledger.require_submitted(connection, tasks)
        commits = ledger.commits(connection)
    yield Rate(
        name="submit",
        tasks=tasks,
        seconds=seconds,
        floor_seconds=sum(floor.replay(folder, commits)),
        commits=len(commits),
        server_us_per_task=us_per_task([before], [after], tasks),
        server_peak_bytes=None if after is None else after.peak_bytes,
    )
