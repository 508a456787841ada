"""Dramatiq on Redis with its result backend, in a Redis database of its own so that results can be counted."""

from __future__ import annotations

from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import RedisBackend
from redis import Redis

from bench.peers.programs import work

PACKAGE = "dramatiq"

redis = Redis.from_url(f"{work.SERVER}/1")
broker = RedisBroker(url=f"{work.SERVER}/0")
broker.add_middleware(Results(backend=RedisBackend(client=redis), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def hash_text(text: str) -> str:
    """Do the work."""
    return work.hash_text(text)


async def prepare() -> None:
    """Redis needs nothing."""


async def submit(tasks: int) -> None:
    """Send one by one: dramatiq has no bulk (a group is this loop)."""
    for number in range(tasks):
        broker.enqueue(_message(number))


async def settle() -> None:
    """Nothing to do."""


async def all_done(tasks: int) -> bool:
    """Count the results."""
    return bool(redis.dbsize() == tasks)


async def digests(tasks: int) -> Sequence[str | None]:
    """Read the results."""
    return [_result(number) for number in range(tasks)]


async def run_one(number: int) -> str | None:
    """Wait for the result as dramatiq says: blocking in Redis."""
    digest: str = broker.enqueue(_message(number)).get_result(block=True, timeout=10_000)
    return digest


def _message(number: int) -> dramatiq.Message[str]:
    return hash_text.message(work.text(number)).copy(message_id=work.task_id(number))


def _result(number: int) -> str | None:
    try:
        digest: str = _message(number).get_result()
    except ResultMissing:
        return None
    return digest
