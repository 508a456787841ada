"""What a run has left in its database: that every result is there and right, and which transactions that took.

Reads only, on connections of its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from bench import texts
from bench.process import Failed

# Each transaction of the server has its own instant, in microseconds, and stamps its rows with it.
_COMMITS = """
    SELECT sum(created), sum(assigned), sum(completed) FROM (
        SELECT created_at AS at, 1 AS created, 0 AS assigned, 0 AS completed FROM tasks
        UNION ALL SELECT assigned_at, 0, 1, 0 FROM assignments WHERE outcome = 'completed'
        UNION ALL SELECT finished_at, 0, 0, 1 FROM assignments WHERE outcome = 'completed'
    ) GROUP BY at ORDER BY at
"""
_COMPLETED = "SELECT tasks FROM counts WHERE kind = ? AND state = 'completed'"
_SPAN = "SELECT min(assigned_at), max(finished_at) FROM assignments"
_TASKS = "SELECT key, payload, state, result FROM tasks"


class Commit(Struct, frozen=True):
    """How many tasks one transaction took in, gave out, and completed."""

    created: int
    assigned: int
    completed: int


@contextmanager
def reading(db: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading as long as the context lasts."""
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as connection:
        yield connection


def completed(connection: sqlite3.Connection) -> int:
    """Count the completed tasks, by the server's own books."""
    row: tuple[int] | None = connection.execute(_COMPLETED, (texts.KIND,)).fetchone()
    return row[0] if row else 0


def drained_s(connection: sqlite3.Connection) -> float:
    """Give the seconds from the first assignment to the last result."""
    first, last = connection.execute(_SPAN).fetchone()
    return float(last - first) / 1_000_000


def commits(connection: sqlite3.Connection) -> list[Commit]:
    """List the transactions that moved tasks, in their order."""
    return [Commit(*row) for row in connection.execute(_COMMITS)]


def require_submitted(connection: sqlite3.Connection, tasks: int) -> None:
    """See that tasks number 0 to `tasks` - 1 wait, and no others.

    Raises:
        Failed: they do not.
    """
    _require(connection, {texts.key(n): (texts.payload(n), "pending", None) for n in range(tasks)})


def require_completed(connection: sqlite3.Connection, tasks: int) -> None:
    """See that tasks number 0 to `tasks` - 1 have their right results, and that there are no others.

    Raises:
        Failed: they have not.
    """
    _require(connection, {texts.key(n): (texts.payload(n), "completed", texts.result(n)) for n in range(tasks)})


def _require(connection: sqlite3.Connection, wanted: dict[str, tuple[str, str, str | None]]) -> None:
    found = {key: (payload, state, result) for key, payload, state, result in connection.execute(_TASKS)}
    if found != wanted:
        wrong = sum(found.get(key) != row for key, row in wanted.items())
        raise Failed(f"wanted {len(wanted):,} tasks, found {len(found):,}; {wrong:,} are missing or wrong")
