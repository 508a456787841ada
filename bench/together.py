"""How fast tasks pass through the whole: one producer submits and waits for the results, two clients run them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import floor, ledger
from bench.figures import Rate, us_per_task
from bench.server import running_server
from bench.submitter import Order, submit
from bench.workers import running_workers

CLIENTS = 2


def measure(folder: Path, tasks: int) -> Iterator[Rate]:
    """Submit `tasks` tasks and wait for all results."""
    with running_server(folder) as server, running_workers(server.address, folder, count=CLIENTS) as workers:
        before, workers_before = server.process.usage(), [worker.usage() for worker in workers]
        seconds = submit(server.address, Order(tasks=tasks, follow=True))
        after, workers_after = server.process.usage(), [worker.usage() for worker in workers]
    with ledger.reading(server.db) as connection:
        ledger.require_completed(connection, tasks)
        commits = ledger.commits(connection)
    yield Rate(
        name=f"together, {CLIENTS} clients",
        tasks=tasks,
        seconds=seconds,
        floor_seconds=sum(floor.replay(folder, commits)),
        commits=len(commits),
        server_us_per_task=us_per_task([before], [after], tasks),
        server_peak_bytes=None if after is None else after.peak_bytes,
        workers_us_per_task=us_per_task(workers_before, workers_after, tasks),
    )
