"""RQ on Redis: jobs as JSON, put in by pipelines, run by workers that do not fork for each job."""

from __future__ import annotations

from collections.abc import Sequence

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.registry import FinishedJobRegistry

from bench.peers.programs import work

PACKAGE = "rq"
PART = 1_000
# Read by the workers, which take this module for their settings.
REDIS_URL = work.SERVER

redis = Redis.from_url(REDIS_URL)
queue = Queue(connection=redis, serializer="json")


async def prepare() -> None:
    """Redis needs nothing."""


async def submit(tasks: int) -> None:
    """Put jobs in by `enqueue_many`, which is a pipeline each."""
    for numbers in work.parts(tasks, PART):
        queue.enqueue_many(
            [Queue.prepare_data(work.hash_text, (work.text(n),), job_id=work.task_id(n)) for n in numbers]
        )


async def settle() -> None:
    """Nothing to do."""


async def all_done(tasks: int) -> bool:
    """Count the finished jobs."""
    return bool(redis.zcard(FinishedJobRegistry(queue=queue).key) == tasks)


async def digests(tasks: int) -> Sequence[str | None]:
    """Read the results."""
    return [
        job.return_value() if job else None
        for numbers in work.parts(tasks, PART)
        for job in Job.fetch_many([work.task_id(n) for n in numbers], connection=redis, serializer="json")
    ]


async def run_one(number: int) -> str | None:
    """Wait for the result as RQ says: blocking on its stream."""
    job = queue.enqueue(work.hash_text, work.text(number), job_id=work.task_id(number))
    result = job.latest_result(timeout=10)
    return result.return_value if result else None
