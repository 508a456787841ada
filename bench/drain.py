"""How fast tasks go out and results come back: all of them wait when the clients come, and nothing else happens.

The clock runs from the first assignment to the last result, as the database dates them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from bench import floor, ledger
from bench.figures import Rate, us_per_task
from bench.process import Process
from bench.server import Server, running_server
from bench.submitter import Order, submit
from bench.texts import SHORT
from bench.workers import running_workers

TIMEOUT_S = 900.0

RunningClients = Callable[[str, Path], AbstractContextManager[Sequence[Process]]]
"""Given the server's address and a folder for logs, run clients in processes."""


def measure(folder: Path, tasks: int) -> Iterator[Rate]:
    """Drain `tasks` tasks with one client process, then with two."""
    yield draining("drain, 1 client", folder / "1", tasks, _clients(1))
    yield draining("drain, 2 clients", folder / "2", tasks, _clients(2))


def draining(name: str, folder: Path, tasks: int, running_clients: RunningClients) -> Rate:
    """Let clients that come to `tasks` waiting tasks run them."""
    folder.mkdir()
    with running_server(folder) as server:
        submit(server.address, Order(tasks=tasks))
        with running_clients(server.address, folder) as clients:
            # CPU is counted from here on: that they came is not part of any task.
            begun = await_completed(server, clients, 1)
            before, clients_before = server.process.usage(), [client.usage() for client in clients]
            await_completed(server, clients, tasks)
            after, clients_after = server.process.usage(), [client.usage() for client in clients]
    with ledger.reading(server.db) as connection:
        ledger.require_completed(connection, tasks, SHORT)
        seconds = ledger.drained_s(connection)
        commits = ledger.commits(connection)
    is_drain = [commit.created == 0 for commit in commits]
    times_s = zip(floor.replay(folder, commits, SHORT), is_drain, strict=True)
    return Rate(
        name=name,
        tasks=tasks,
        seconds=seconds,
        floor_seconds=sum(time_s for time_s, is_drain in times_s if is_drain),
        commits=sum(is_drain),
        server_us_per_task=us_per_task([before], [after], tasks - begun),
        server_peak_bytes=None if after is None else after.peak_bytes,
        workers_us_per_task=us_per_task(clients_before, clients_after, tasks - begun),
    )


def _clients(count: int) -> RunningClients:
    return lambda address, folder: running_workers(address, folder, count=count)


def await_completed(server: Server, clients: Sequence[Process], tasks: int) -> int:
    """Wait until at least so many are completed, and give how many there are."""
    with ledger.reading(server.db) as connection:

        def look() -> int | None:
            for client in clients:
                client.require_running()
            completed = ledger.count(connection, "completed")
            return completed if completed >= tasks else None

        return server.process.wait_for(look, f"complete {tasks:,} tasks", timeout_s=TIMEOUT_S)
