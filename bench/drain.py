"""How fast tasks go out and results come back: all of them wait when the clients come, and nothing else happens.

The clock runs from the first assignment to the last result, as the database dates them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import floor, ledger
from bench.figures import Rate, us_per_task
from bench.process import Process
from bench.server import Server, running_server
from bench.submitter import Order, submit
from bench.texts import SHORT
from bench.workers import running_workers

TIMEOUT_S = 900.0


def measure(folder: Path, tasks: int) -> Iterator[Rate]:
    """Drain `tasks` tasks with one client process, then with two."""
    for clients in (1, 2):
        place = folder / str(clients)
        place.mkdir()
        yield _drain(place, tasks, clients)


def _drain(folder: Path, tasks: int, clients: int) -> Rate:
    with running_server(folder) as server:
        submit(server.address, Order(tasks=tasks))
        before = server.process.usage()
        with running_workers(server.address, folder, count=clients) as workers:
            workers_before = [worker.usage() for worker in workers]
            _await_completed(server, workers, tasks)
            after, workers_after = server.process.usage(), [worker.usage() for worker in workers]
    with ledger.reading(server.db) as connection:
        ledger.require_completed(connection, tasks, SHORT)
        seconds = ledger.drained_s(connection)
        commits = ledger.commits(connection)
    draining = [commit.created == 0 for commit in commits]
    times_s = zip(floor.replay(folder, commits, SHORT), draining, strict=True)
    return Rate(
        name=f"drain, {clients} client{'s' if clients > 1 else ''}",
        tasks=tasks,
        seconds=seconds,
        floor_seconds=sum(time_s for time_s, is_drain in times_s if is_drain),
        commits=sum(draining),
        server_us_per_task=us_per_task([before], [after], tasks),
        server_peak_bytes=None if after is None else after.peak_bytes,
        workers_us_per_task=us_per_task(workers_before, workers_after, tasks),
    )


def _await_completed(server: Server, workers: Sequence[Process], tasks: int) -> None:
    with ledger.reading(server.db) as connection:

        def look() -> bool | None:
            for worker in workers:
                worker.require_running()
            return True if ledger.completed(connection) == tasks else None

        server.process.wait_for(look, f"complete {tasks:,} tasks", timeout_s=TIMEOUT_S)
