"""Submits tasks from a process of its own with dtm's own producer, and may wait for their results.

python -m bench.submitter ADDRESS ORDER, which is JSON
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from typing import NoReturn

import click
import msgspec
from anyio import create_task_group
from msgspec import Raw, Struct

from bench.process import TOP, Failed
from bench.texts import SHORT, Texts
from dtm.cli.input import MOST_TASKS
from dtm.cli.loop import run
from dtm.cli.options import ADDRESS, Address
from dtm.cli.submit import MOST_PARTS
from dtm.client.dial import dial
from dtm.client.producer import Producer
from dtm.security.credentials import NO_CREDENTIALS

TIMEOUT_S = 900.0


class Order(Struct, frozen=True, kw_only=True):
    """What to submit from task number `first` on; by default in such parts as `dtm-client submit` makes of it."""

    tasks: int
    first: int = 0
    texts: Texts = SHORT
    run_at: float | None = None
    follow: bool = False
    part: int = MOST_TASKS
    at_once: int = MOST_PARTS


def submit(address: str, order: Order) -> float:
    """Submit what `order` says.

    Returns:
        The seconds from the first submission to the last answer; with `follow`, to the last result.

    Raises:
        Failed: an answer is missing or wrong.
    """
    command = [sys.executable, "-m", "bench.submitter", address, msgspec.json.encode(order).decode()]
    try:
        done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"wanted the submitter to end within {TIMEOUT_S:g} s") from error
    if done.returncode:
        raise Failed(f"the submitter failed:\n{done.stderr}")
    return float(done.stdout)


@click.command()
@click.argument("address", type=ADDRESS)
@click.argument("order")
def main(*, address: Address, order: str) -> None:
    """Submit tasks and print the seconds that it took."""
    click.echo(run(lambda: _submit(address, msgspec.json.decode(order, type=Order))))


async def _submit(address: Address, order: Order) -> float:
    async with Producer.open(
        address.host, address.port, connect=dial(NO_CREDENTIALS), chance=random.Random(), on_trouble=_give_up
    ) as producer:
        # Shared: whoever has its answer takes the next.
        end = order.first + order.tasks
        firsts = iter(range(order.first, end, order.part))

        async def submit_parts() -> None:
            for first in firsts:
                numbers = range(first, min(first + order.part, end))
                tasks = [order.texts.task(number, run_at=order.run_at) for number in numbers]
                ids = await producer.submit(tasks, follow=order.follow)
                if order.follow:
                    await _check(producer, ids, [order.texts.result(number) for number in numbers])

        began_s = time.perf_counter()
        async with create_task_group() as group:
            for _ in range(order.at_once):
                group.start_soon(submit_parts)
        return time.perf_counter() - began_s


async def _check(producer: Producer, ids: list[int], results: list[str]) -> None:
    for task_id, result in zip(ids, results, strict=True):
        end = await producer.end_of(task_id)
        if end.value != Raw(result.encode()):
            raise Failed(f"wanted {result} of task {task_id}, found {end}")


def _give_up(reason: str) -> NoReturn:
    raise Failed(reason)


if __name__ == "__main__":
    main()
