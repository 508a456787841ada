"""Celery on Redis, results in a Redis database of their own so that they can be counted."""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery, Signature, group
from celery.result import AsyncResult
from redis import Redis

from bench.peers.programs import work

PACKAGE = "celery"
PART = 1_000

redis = Redis.from_url(f"{work.SERVER}/1")
app = Celery(broker=f"{work.SERVER}/0", backend=f"{work.SERVER}/1")
app.conf.update(
    # As dtm: a task is off the queue only when its result is there.
    task_acks_late=True,
    # Many short tasks: its manual advises a large prefetch.
    worker_prefetch_multiplier=128,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="hash_text")
def hash_text(text: str) -> str:
    """Do the work."""
    return work.hash_text(text)


async def prepare() -> None:
    """Redis needs nothing."""


async def submit(tasks: int) -> None:
    """Send groups: one connection, and a message for each task."""
    for numbers in work.parts(tasks, PART):
        group(_signature(number) for number in numbers).apply_async()


async def settle() -> None:
    """Nothing to do."""


async def all_done(tasks: int) -> bool:
    """Count the results."""
    return bool(redis.dbsize() >= tasks)


async def digests(tasks: int) -> Sequence[str | None]:
    """Read the results."""
    results = (AsyncResult(work.task_id(number), app=app) for number in range(tasks))
    return [result.result if result.successful() else None for result in results]


async def run_one(number: int) -> str | None:
    """Wait for the result as Celery does: told by Redis."""
    digest: str = _signature(number).apply_async().get(timeout=10)
    return digest


def _signature(number: int) -> Signature:
    return hash_text.s(work.text(number)).set(task_id=work.task_id(number))
