"""What happens when tasks scheduled for the same instant fall due: how long that takes, and whom it keeps waiting.

Meanwhile a producer submits other tasks, one by one and without a pause, and takes the time of each.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from msgspec import Struct

from bench import floor, ledger
from bench.figures import Latency, Rate, summary, us_per_task
from bench.ledger import Commit
from bench.process import Failed, Usage
from bench.server import Server, running_server
from bench.submitter import Order, submit
from bench.texts import SHORT
from bench.wire import Wire
from bench.workers import running_workers
from dtm.protocol.messages import Submit, SubmitResponse

CLIENTS = 2
TIMEOUT_S = 300.0
# The instant leaves time for the tasks to come in on a slow disk, and then for a look at an idle server.
LEAD_S = 4.0
SUBMITTED_PER_S = 20_000
WATCH_S = 2.0


class _Watched(Struct, frozen=True):
    """What was seen around the instant `at_s`: the submissions before and after it, and the server's usage after it."""

    at_s: float
    before_s: list[float]
    after_s: list[float]
    seconds: float
    usage: list[Usage | None]

    @property
    def submissions(self) -> int:
        return len(self.before_s) + len(self.after_s)


def measure(folder: Path, tasks: int) -> Iterator[Rate | Latency]:
    """Let `tasks` fall due, first with nobody there to run them, then with clients."""
    yield from _waiting(folder / "waiting", tasks)
    yield from _running(folder / "running", tasks)


def _waiting(folder: Path, tasks: int) -> Iterator[Rate | Latency]:
    folder.mkdir()
    with running_server(folder) as server:
        watched = _watch(server, tasks, lambda db: ledger.count(db, "scheduled") == 0)
    with ledger.reading(server.db) as connection:
        ledger.require_submitted(connection, tasks + watched.submissions, SHORT)
    yield _rate("fall due", tasks, watched, seconds=watched.seconds, floor_s=floor.promote(folder, tasks))
    floor_s = floor.replay(folder, [Commit(1, 0, 0)] * watched.submissions, SHORT)
    yield summary("submit, nothing else to do", watched.before_s, floor_s)
    yield summary("submit, tasks fall due", watched.after_s, floor_s)


def _running(folder: Path, tasks: int) -> Iterator[Rate | Latency]:
    folder.mkdir()
    with running_server(folder) as server, running_workers(server.address, folder, count=CLIENTS):
        # The tasks that fell due are older than those submitted meanwhile, and run first.
        watched = _watch(server, tasks, lambda db: ledger.count(db, "completed") >= tasks)
        all_tasks = tasks + watched.submissions
        with ledger.reading(server.db) as connection:
            server.process.wait_for(
                lambda: ledger.count(connection, "completed") == all_tasks or None,
                f"complete {all_tasks:,} tasks",
                timeout_s=TIMEOUT_S,
            )
    with ledger.reading(server.db) as connection:
        ledger.require_completed(connection, all_tasks, SHORT)
        seconds = ledger.last_scheduled_finished_s(connection) - watched.at_s
        commits = ledger.commits(connection)
    times_s = zip(commits, floor.replay(folder, commits, SHORT), strict=True)
    since = [(commit, time_s) for commit, time_s in times_s if commit.at >= watched.at_s * 1_000_000]
    floor_s = floor.promote(folder, tasks) + [time_s for _, time_s in since]
    yield _rate(f"fall due and run, {CLIENTS} clients", tasks, watched, seconds=seconds, floor_s=floor_s)
    submissions_s = [time_s for commit, time_s in since if commit.created]
    yield summary("submit, tasks fall due and run", watched.after_s, submissions_s)


def _watch(server: Server, tasks: int, is_over: Callable[[sqlite3.Connection], bool]) -> _Watched:
    at_s = time.time() + LEAD_S + tasks / SUBMITTED_PER_S
    submit(server.address, Order(tasks=tasks, run_at=at_s))
    left_s = at_s - WATCH_S - time.time()
    if left_s < 0:
        raise Failed(
            f"wanted {tasks:,} tasks submitted {WATCH_S:g} s before they fall due; it took {-left_s:.1f} s more"
        )
    time.sleep(left_s)
    numbers = count(tasks)
    with Wire(server.address) as producer, ledger.reading(server.db) as connection:
        before_s = list(_submissions(producer, numbers, lambda: time.time() >= at_s))
        usage = [server.process.usage()]
        after_s = list(_submissions(producer, numbers, lambda: is_over(connection)))
        seconds = time.time() - at_s
        usage.append(server.process.usage())
    return _Watched(at_s, before_s, after_s, seconds, usage)


def _submissions(producer: Wire, numbers: Iterator[int], is_over: Callable[[], bool]) -> Iterator[float]:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not is_over():
        if time.monotonic() > deadline_s:
            raise Failed(f"wanted all tasks to fall due and run within {TIMEOUT_S:g} s")
        number = next(numbers)
        sent_s = time.perf_counter()
        producer.send(Submit(ref=number, tasks=[SHORT.task(number)]))
        producer.hear(SubmitResponse)
        yield time.perf_counter() - sent_s


def _rate(name: str, tasks: int, watched: _Watched, *, seconds: float, floor_s: list[float]) -> Rate:
    earlier, later = watched.usage
    return Rate(
        name=name,
        tasks=tasks,
        seconds=seconds,
        floor_seconds=sum(floor_s),
        commits=len(floor_s),
        server_us_per_task=us_per_task([earlier], [later], tasks),
        server_peak_bytes=None if later is None else later.peak_bytes,
    )
