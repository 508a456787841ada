"""How long one task takes when nothing else is to be done: to a worker's hands, and to its result."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from msgspec import Raw

from bench import floor, ledger
from bench.figures import Latency, summary
from bench.process import Failed
from bench.server import running_server
from bench.texts import KIND, SHORT
from bench.wire import Wire
from bench.workers import running_workers
from dtm.cli.loop import run
from dtm.cli.options import ADDRESS, Address
from dtm.client.dial import dial
from dtm.client.producer import Producer
from dtm.protocol.messages import Register, RegisterResponse, Result, ResultResponse, Submit, SubmitResponse, Task
from dtm.security.credentials import NO_CREDENTIALS

MOST_TASKS = 500


def measure(folder: Path, tasks: int) -> Iterator[Latency]:
    """Run at most `MOST_TASKS` tasks one by one, and again with a worker that only takes them."""
    tasks = min(tasks, MOST_TASKS)
    for name, measure_one in (("submit to result", _to_result), ("submit to pick-up", _to_pick_up)):
        place = folder / name
        place.mkdir()
        yield measure_one(name, place, tasks)


def _to_result(name: str, folder: Path, tasks: int) -> Latency:
    with running_server(folder) as server, running_workers(server.address, folder, count=1):
        took_s = run(lambda: _await_results(ADDRESS.convert(server.address, None, None), tasks))
    with ledger.reading(server.db) as connection:
        ledger.require_completed(connection, tasks, SHORT)
        commits = ledger.commits(connection)
    floor_s: list[float] = []
    for commit, commit_s in zip(commits, floor.replay(folder, commits, SHORT), strict=True):
        # A task's first commit takes it in and gives it out; the next takes its result.
        if commit.created:
            floor_s.append(commit_s)
        else:
            floor_s[-1] += commit_s
    return summary(name, took_s, floor_s)


async def _await_results(address: Address, tasks: int) -> list[float]:
    took_s = []
    async with Producer.open(
        address.host, address.port, connect=dial(NO_CREDENTIALS), chance=random.Random(), on_trouble=_give_up
    ) as producer:
        for number in range(tasks):
            sent_s = time.perf_counter()
            (task_id,) = await producer.submit([SHORT.task(number)], follow=True)
            await producer.end_of(task_id)
            took_s.append(time.perf_counter() - sent_s)
    return took_s


def _to_pick_up(name: str, folder: Path, tasks: int) -> Latency:
    with running_server(folder) as server, Wire(server.address) as producer, Wire(server.address) as worker:
        worker.send(Register("pick-up", [KIND], capacity=1))
        worker.hear(RegisterResponse)
        took_s = [_pick_up(producer, worker, number) for number in range(tasks)]
    with ledger.reading(server.db) as connection:
        ledger.require_completed(connection, tasks, SHORT)
        commits = ledger.commits(connection)
    floor_s = zip(commits, floor.replay(folder, commits, SHORT), strict=True)
    return summary(name, took_s, [commit_s for commit, commit_s in floor_s if commit.created])


def _pick_up(producer: Wire, worker: Wire, number: int) -> float:
    sent_s = time.perf_counter()
    producer.send(Submit(ref=number, tasks=[SHORT.task(number)]))
    task = worker.hear(Task)
    took_s = time.perf_counter() - sent_s
    producer.hear(SubmitResponse)
    value = Raw(SHORT.result(number).encode())
    worker.send(Result(task_id=task.task_id, assignment=task.assignment, ok=True, value=value))
    worker.hear(ResultResponse)
    return took_s


def _give_up(reason: str) -> NoReturn:
    raise Failed(reason)
