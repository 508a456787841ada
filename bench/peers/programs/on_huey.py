"""Huey on SQLite, two worker processes of one consumer."""

from __future__ import annotations

from collections.abc import Sequence

from huey import SqliteHuey

from bench.peers.programs import work

PACKAGE = "huey"

# WAL is huey's own default; fsync=True is synchronous=FULL.
huey = SqliteHuey(filename=work.SERVER, fsync=True)


@huey.task()
def hash_text(text: str) -> str:
    """Do the work."""
    return work.hash_text(text)


async def prepare() -> None:
    """Huey makes its tables when it is imported."""


async def submit(tasks: int) -> None:
    """Enqueue one by one: huey has no bulk."""
    for number in range(tasks):
        huey.enqueue(_task(number))


async def settle() -> None:
    """Nothing to do."""


async def all_done(tasks: int) -> bool:
    """Count the result rows."""
    return bool(huey.result_count() == tasks)


async def digests(tasks: int) -> Sequence[str | None]:
    """Read the results."""
    return [huey.result(work.task_id(number), preserve=True) for number in range(tasks)]


async def run_one(number: int) -> str | None:
    """Poll for the result: with SQLite there is nothing to wait on."""
    result = huey.enqueue(_task(number))
    digest: str | None = result.get(blocking=True, timeout=10, backoff=1, max_delay=work.POLL_S)
    return digest


def _task(number: int) -> object:
    return hash_text.task_class(args=(work.text(number),), id=work.task_id(number))
