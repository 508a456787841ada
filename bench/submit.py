"""How fast tasks come in, in bulk: one producer submits them all, and nobody runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench import floor, ledger
from bench.figures import Rate, us_per_task
from bench.server import running_server
from bench.submitter import Order, submit


def measure(folder: Path, tasks: int) -> Iterator[Rate]:
    """Submit `tasks` tasks in large parts."""
    yield submitting("submit", folder, Order(tasks=tasks))


def submitting(name: str, folder: Path, order: Order) -> Rate:
    """Submit to an empty server what `order` says."""
    with running_server(folder) as server:
        before = server.process.usage()
        seconds = submit(server.address, order)
        after = server.process.usage()
    with ledger.reading(server.db) as connection:
        ledger.require_submitted(connection, order.tasks, order.texts)
        commits = ledger.commits(connection)
    return Rate(
        name=name,
        tasks=order.tasks,
        seconds=seconds,
        floor_seconds=sum(floor.replay(folder, commits, order.texts)),
        commits=len(commits),
        server_us_per_task=us_per_task([before], [after], order.tasks),
        server_peak_bytes=None if after is None else after.peak_bytes,
    )
