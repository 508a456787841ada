"""What both peers on PostgreSQL need of it beyond their own ways: above all a place for results."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg

from bench.peers.programs import work

_connections: list[asyncpg.Connection] = []
_waiting: list[tuple[int, str, asyncio.Future[None]]] = []
_writers: set[asyncio.Task[None]] = set()


async def prepare() -> None:
    """Make the table of results."""
    await (await _connected()).execute("CREATE TABLE bench_results (number int PRIMARY KEY, digest text NOT NULL)")


async def vacuum() -> None:
    """Let PostgreSQL see what is there now, as after each bulk: its planner is far off otherwise."""
    await (await _connected()).execute("VACUUM ANALYZE")


async def is_over(tasks: int, table: str, where: str = "true") -> bool:
    """See that no row of `table` is left, and that all results are there."""
    connection = await _connected()
    if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table} WHERE {where})"):
        return False
    found: int = await connection.fetchval("SELECT count(*) FROM bench_results")
    return found == tasks


async def keep(number: int, digest: str) -> None:
    """Keep a result, and wait for its commit; whatever comes while one is on its way shares the next."""
    written = asyncio.get_running_loop().create_future()
    _waiting.append((number, digest, written))
    if not _writers:
        _writers.add(asyncio.create_task(_write_all()))
    await written


async def digests(tasks: int) -> Sequence[str | None]:
    """Read the results of tasks number 0 to `tasks` - 1."""
    rows = await (await _connected()).fetch("SELECT number, digest FROM bench_results")
    found = dict(tuple(row) for row in rows)
    return [found.get(number) for number in range(tasks)]


async def await_digest(number: int) -> str:
    """Look into the table until a result is there."""
    connection = await _connected()
    read = "SELECT digest FROM bench_results WHERE number = $1"
    while (digest := await connection.fetchval(read, number)) is None:  # noqa: ASYNC110, no event tells of it
        await asyncio.sleep(work.POLL_S)
    return str(digest)


async def _write_all() -> None:
    connection = await _connected()
    while _waiting:
        taken = _waiting[:]
        _waiting.clear()
        numbers, texts, written = zip(*taken, strict=True)
        await connection.execute(
            "INSERT INTO bench_results SELECT * FROM unnest($1::int[], $2::text[])", numbers, texts
        )
        for future in written:
            future.set_result(None)
    _writers.clear()


async def _connected() -> asyncpg.Connection:
    if not _connections:
        _connections.append(await asyncpg.connect(work.SERVER))
    return _connections[0]
