"""PgQueuer on PostgreSQL. It keeps no results, so the worker has them in a table of their own.

python -m bench.peers.programs.on_pgqueuer is the worker: what `pgq run` does, which fails with this typer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import uvloop
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries, run

from bench.peers.programs import postgresql, work

PACKAGE = "pgqueuer"
PART = 1_000
BATCH = 500

_queries: list[Queries] = []


@asynccontextmanager
async def create() -> AsyncIterator[PgQueuer]:
    """Make a worker."""
    pgq = PgQueuer(AsyncpgDriver(await asyncpg.connect(work.SERVER)))

    @pgq.entrypoint("hash_text")
    async def hash_text(job: Job) -> None:
        number, _, text = job.payload.decode().partition(" ")
        await postgresql.keep(int(number), work.hash_text(text))

    yield pgq


async def prepare() -> None:
    """Make the tables, all of them logged, which is the default."""
    await (await _opened()).install()
    await postgresql.prepare()


async def submit(tasks: int) -> None:
    """Enqueue in batches."""
    queries = await _opened()
    for numbers in work.parts(tasks, PART):
        size = len(numbers)
        await queries.enqueue(["hash_text"] * size, [_payload(number) for number in numbers], [0] * size)


async def settle() -> None:
    """Tell the planner what is there now."""
    await postgresql.vacuum()


async def all_done(tasks: int) -> bool:
    """See that no job is left and all results are there."""
    return await postgresql.is_over(tasks, "pgqueuer")


async def digests(tasks: int) -> Sequence[str | None]:
    """Read the table."""
    return await postgresql.digests(tasks)


async def run_one(number: int) -> str | None:
    """Look into the table, which is sooner than PgQueuer's own word that a job is done."""
    await (await _opened()).enqueue("hash_text", _payload(number))
    return await postgresql.await_digest(number)


async def _opened() -> Queries:
    if not _queries:
        _queries.append(Queries(AsyncpgDriver(await asyncpg.connect(work.SERVER))))
    return _queries[0]


def _payload(number: int) -> bytes:
    return f"{number} {work.text(number)}".encode()


if __name__ == "__main__":
    uvloop.run(run(create, batch_size=BATCH))
