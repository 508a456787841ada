"""What both peers on PostgreSQL need of it beyond their own ways."""

from __future__ import annotations

import asyncpg

from bench.peers.programs import work


async def vacuum() -> None:
    """Let PostgreSQL see what is there now, as after each bulk: its planner is far off otherwise."""
    connection = await asyncpg.connect(work.SERVER)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def count(table: str, where: str = "true") -> int:
    """Count rows."""
    connection = await asyncpg.connect(work.SERVER)
    rows: int = await connection.fetchval(f"SELECT count(*) FROM {table} WHERE {where}")
    await connection.close()
    return rows
