"""What a backlog costs: submissions, claims, memory, a restart and statistics while many tasks wait.

In one kind, and spread over twenty of which the client runs three. The tasks that are run wait beside the backlog, so
that as many still wait in the end.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from bench import floor, ledger
from bench.drain import await_completed
from bench.figures import Backlog, Latency, Rate, summary, us_per_task
from bench.fill import fill
from bench.ledger import Commit
from bench.process import Failed, Usage, running
from bench.server import Server, running_server
from bench.submitter import Order, submit
from bench.texts import Texts, answer
from bench.wire import Wire
from dtm.protocol.messages import Goodbye, Register, RegisterResponse, ResultResponse, Task
from dtm.storage.reader import Reader
from dtm.storage.statistics import statistics as read_statistics

SIZES = (1_000, 100_000, 1_000_000, 10_000_000)
# Over how many kinds a backlog is spread, and how many of these the client runs.
SPREADS = ((1, 1), (20, 3))
# Submitted, and run: enough for a rate.
TASKS = 50_000
CLAIMS = 300
LOOKS = 5
TIMEOUT_S = 60.0


class _Seen(Struct, frozen=True, kw_only=True):
    """What was seen of a server, which took in tasks, gave some out one by one, and then many to a client.

    Instants are Unix time in microseconds.
    """

    began_at: int
    submit_s: float
    submit_us: float | None
    claims_s: list[float]
    drain_at: int
    drain_us: float | None
    client_us: float | None
    usage: Usage


def measure(folder: Path, most: int) -> Iterator[Rate | Latency | Backlog]:
    """Look at servers with backlogs of up to `most` tasks."""
    for waiting in [*(size for size in SIZES if size < most), most]:
        for kinds, run in SPREADS:
            name = f"{waiting:,} waiting" + (f", {kinds} kinds" if kinds > 1 else "")
            # Never two of them on the disk.
            with TemporaryDirectory(dir=folder) as place:
                yield from _measure(name, Path(place), [(waiting, Texts(kinds=kinds)), (TASKS, Texts(kinds=run))])


def _measure(name: str, folder: Path, parts: Sequence[tuple[int, Texts]]) -> Iterator[Rate | Latency | Backlog]:
    filled, texts = sum(size for size, _ in parts), parts[-1][1]
    fill(folder / "tasks.db", parts)
    with running_server(folder) as server:
        seen = _use(server, folder, Order(first=filled, tasks=TASKS, texts=texts))
        stats_s, query_s = _median_s(lambda: _stats(server.db)), _median_s(lambda: _query(server.db))
        server.process.kill()
    began_s = time.monotonic()
    with running_server(folder) as server:
        restart_s = time.monotonic() - began_s
    with ledger.reading(server.db) as connection:
        ledger.require_run(connection, filled + TASKS, TASKS + CLAIMS, texts)
        commits = ledger.commits(connection, since=seen.began_at)
    floor_s = floor.replay_on(server.db, commits, texts, first=filled + TASKS)
    yield from _figures(name, seen, list(zip(commits, floor_s, strict=True)))
    yield Backlog(
        name=name,
        memory_bytes=seen.usage.memory_bytes,
        restart_ms=restart_s * 1_000,
        stats_ms=stats_s * 1_000,
        query_ms=query_s * 1_000,
    )


def _use(server: Server, folder: Path, order: Order) -> _Seen:
    began_at, before = _now(), server.process.usage()
    submit_s = submit(server.address, order)
    submit_us = us_per_task([before], [server.process.usage()], order.tasks)
    with Wire(server.address) as worker:
        claims_s = list(_claims(worker, order.texts))
    drain_at = _now()
    command = ("bench.hasher", server.address, ",".join(order.texts.names))
    with running(command, folder / "client.log") as client:
        begun = await_completed(server, [client], CLAIMS + 1)
        before, client_before = server.process.usage(), client.usage()
        done = await_completed(server, [client], CLAIMS + TASKS) - begun
        after, client_after = server.process.usage(), client.usage()
    return _Seen(
        began_at=began_at,
        submit_s=submit_s,
        submit_us=submit_us,
        claims_s=claims_s,
        drain_at=drain_at,
        drain_us=us_per_task([before], [after], done),
        client_us=us_per_task([client_before], [client_after], done),
        usage=server.process.require_usage(),
    )


def _claims(worker: Wire, texts: Texts) -> Iterator[float]:
    """Give the seconds from each result to the next task."""
    worker.send(Register("claims", texts.names, capacity=1))
    worker.hear(RegisterResponse)
    task = worker.hear(Task)
    for _ in range(CLAIMS):
        result = answer(task)
        sent_s = time.perf_counter()
        worker.send(result)
        worker.hear(ResultResponse)
        task = worker.hear(Task)
        yield time.perf_counter() - sent_s
    # It was not run, and nobody is to blame.
    worker.send(Goodbye())


def _figures(name: str, seen: _Seen, done: Sequence[tuple[Commit, float]]) -> Iterator[Rate | Latency]:
    submissions = [time_s for commit, time_s in done if commit.created]
    yield Rate(
        name=f"submit, {name}",
        tasks=TASKS,
        seconds=seen.submit_s,
        floor_seconds=sum(submissions),
        commits=len(submissions),
        server_us_per_task=seen.submit_us,
        server_peak_bytes=seen.usage.peak_bytes,
    )
    claims = [time_s for commit, time_s in done if commit.assigned and commit.at < seen.drain_at]
    yield summary(f"claim, {name}", seen.claims_s, claims)
    drain = [(commit, time_s) for commit, time_s in done if commit.at >= seen.drain_at]
    yield Rate(
        name=f"drain, {name}",
        tasks=sum(commit.completed for commit, _ in drain),
        seconds=(drain[-1][0].at - drain[0][0].at) / 1_000_000,
        floor_seconds=sum(time_s for _, time_s in drain),
        commits=len(drain),
        server_us_per_task=seen.drain_us,
        server_peak_bytes=seen.usage.peak_bytes,
        workers_us_per_task=seen.client_us,
    )


def _median_s(act: Callable[[], object]) -> float:
    took_s = []
    for _ in range(LOOKS):
        began_s = time.perf_counter()
        act()
        took_s.append(time.perf_counter() - began_s)
    return statistics.median(took_s)


def _stats(db: Path) -> None:
    """Let dtm-admin show the statistics, from its start to its end."""
    command = (Path(sys.executable).with_name("dtm-admin"), "stats", "--db", db)
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise Failed(f"dtm-admin stats failed:\n{done.stderr}")


def _query(db: Path) -> None:
    """Read the statistics alone."""
    reader = Reader.open(db)
    try:
        read_statistics(reader, _now())
    finally:
        reader.close()


def _now() -> int:
    return time.time_ns() // 1_000
