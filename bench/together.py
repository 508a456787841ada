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
    yield passing(f"together, {CLIENTS} clients", folder, Order(tasks=tasks, follow=True))


def passing(name: str, folder: Path, order: Order) -> Rate:
    """Submit what `order` says, and wait for all results."""
    with running_server(folder) as server, running_workers(server.address, folder, count=CLIENTS) as workers:
        before, workers_before = server.process.usage(), [worker.usage() for worker in workers]
        seconds = submit(server.address, order)
        after, workers_after = server.process.usage(), [worker.usage() for worker in workers]
    with ledger.reading(server.db) as connection:
        ledger.require_completed(connection, order.tasks, order.texts)
        commits = ledger.commits(connection)
    return Rate(
        name=name,
        tasks=order.tasks,
        seconds=seconds,
        floor_seconds=sum(floor.replay(folder, commits, order.texts)),
        commits=len(commits),
        server_us_per_task=us_per_task([before], [after], order.tasks),
        server_peak_bytes=None if after is None else after.peak_bytes,
        workers_us_per_task=us_per_task(workers_before, workers_after, order.tasks),
    )
