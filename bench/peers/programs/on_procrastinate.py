"""Procrastinate on PostgreSQL. It keeps no results, so the worker has them in a table of their own."""

from __future__ import annotations

from collections.abc import Sequence

from procrastinate import App, PsycopgConnector

from bench.peers.programs import postgresql, work

PACKAGE = "procrastinate"
PART = 1_000

app = App(connector=PsycopgConnector(conninfo=work.SERVER))
_open: list[object] = []


@app.task(name="hash_text")
async def hash_text(number: int, text: str) -> None:
    """Do the work."""
    await postgresql.keep(number, work.hash_text(text))


async def prepare() -> None:
    """Make the tables."""
    await app.open_async()
    await app.schema_manager.apply_schema_async()
    await app.close_async()
    await postgresql.prepare()


async def submit(tasks: int) -> None:
    """Defer in batches."""
    await app.open_async()
    for numbers in work.parts(tasks, PART):
        await hash_text.batch_defer_async(*map(_arguments, numbers))
    await app.close_async()


async def settle() -> None:
    """Tell the planner what is there now."""
    await postgresql.vacuum()


async def all_done(tasks: int) -> bool:
    """See that no job is open and all results are there."""
    return await postgresql.is_over(tasks, "procrastinate_jobs", "status IN ('todo', 'doing')")


async def digests(tasks: int) -> Sequence[str | None]:
    """Read the table."""
    return await postgresql.digests(tasks)


async def run_one(number: int) -> str | None:
    """Look into the table: procrastinate has nothing to wait on."""
    if not _open:
        _open.append(await app.open_async())
    await hash_text.defer_async(**_arguments(number))
    return await postgresql.await_digest(number)


def _arguments(number: int) -> dict[str, int | str]:
    return {"number": number, "text": work.text(number)}
