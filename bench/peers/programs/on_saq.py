"""SAQ on Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from saq import Queue

from bench.peers.programs import work

PACKAGE = "saq"
AT_ONCE = 100
SWEEP_LATER_S = 600
LOOK_AGAIN_S = 0.1

queue = Queue.from_url(work.SERVER, max_concurrent_ops=AT_ONCE)


async def hash_text(_: object, *, text: str) -> str:
    """Do the work."""
    return work.hash_text(text)


settings = {"queue": queue, "functions": [hash_text], "concurrency": AT_ONCE}


async def prepare() -> None:
    """Take the first sweep's turn.

    A worker sweeps as it starts, and aborts jobs that workers have taken but not yet marked: they would never be run.
    """
    await queue.sweep(lock=SWEEP_LATER_S)


async def submit(tasks: int) -> None:
    """Enqueue many at once: SAQ has no bulk."""
    for numbers in work.parts(tasks, AT_ONCE):
        await asyncio.gather(
            *(queue.enqueue("hash_text", key=work.task_id(number), text=work.text(number)) for number in numbers)
        )


async def settle() -> None:
    """Nothing to do."""


async def all_done(tasks: int) -> bool:
    """See that nothing is incomplete."""
    return bool(await queue.count("incomplete") == 0)


async def digests(tasks: int) -> Sequence[str | None]:
    """Read the results."""
    return [
        job.result if job else None
        for numbers in work.parts(tasks, AT_ONCE)
        for job in await queue.jobs([work.task_id(number) for number in numbers])
    ]


async def run_one(number: int) -> str | None:
    """Wait for the result as SAQ does, told by Redis (`apply` looks every half second)."""
    job = await queue.enqueue("hash_text", key=work.task_id(number), text=work.text(number))
    while not job.completed:
        # A job that ends between its look and its subscription is not told of.
        with suppress(TimeoutError):
            await job.refresh(until_complete=LOOK_AGAIN_S)
    digest: str = job.result
    return digest
