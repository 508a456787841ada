"""Procrastinate on PostgreSQL. It keeps no results, so the worker appends each to a file."""

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
    work.record(number, work.hash_text(text))


async def prepare() -> None:
    """Make the tables."""
    await app.open_async()
    await app.schema_manager.apply_schema_async()
    await app.close_async()


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
    """See that all results are in the file, and then that no job is open."""
    open_jobs = "status IN ('todo', 'doing')"
    return work.recorded() == tasks and await postgresql.count("procrastinate_jobs", open_jobs) == 0


async def digests(tasks: int) -> Sequence[str | None]:
    """Read the file."""
    return work.read_recorded(tasks)


async def run_one(number: int) -> str | None:
    """Look into the file: procrastinate has nothing to wait on."""
    if not _open:
        _open.append(await app.open_async())
    await hash_text.defer_async(**_arguments(number))
    return await work.await_recorded(number)


def _arguments(number: int) -> dict[str, int | str]:
    return {"number": number, "text": work.text(number)}
