"""What a run has left in its database: that every result is there and right, and which transactions that took.

Reads only, on connections of its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from bench.process import Failed
from bench.texts import Texts, number_of

# Each transaction of the server has its own instant, in microseconds, and stamps its rows with it.
_COMMITS = """
    SELECT sum(created), sum(assigned), sum(completed), at FROM (
        SELECT created_at AS at, 1 AS created, 0 AS assigned, 0 AS completed FROM tasks
        UNION ALL SELECT assigned_at, 0, 1, 0 FROM assignments WHERE outcome = 'completed'
        UNION ALL SELECT finished_at, 0, 0, 1 FROM assignments WHERE outcome = 'completed'
    ) WHERE at >= ? GROUP BY at ORDER BY at
"""
_COUNT = "SELECT sum(tasks) FROM counts WHERE state = ?"
_LAST_SCHEDULED = "SELECT max(finished_at) FROM tasks WHERE run_at IS NOT NULL"
_SPAN = "SELECT min(assigned_at), max(finished_at) FROM assignments"
_COMPLETED = "SELECT key, result FROM tasks WHERE state = 'completed'"
_UNTOUCHED = "SELECT count(*) FROM tasks WHERE state = 'pending' AND result IS NULL AND retry_count = 0"
_TASKS = "SELECT key, payload, state, result FROM tasks"


class Commit(Struct, frozen=True):
    """How many tasks one transaction took in, gave out, and completed; `at` is Unix time in microseconds."""

    created: int
    assigned: int
    completed: int
    at: int = 0


@contextmanager
def reading(db: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading as long as the context lasts."""
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as connection:
        yield connection


def count(connection: sqlite3.Connection, state: str) -> int:
    """Count the tasks in a state, by the server's own books."""
    (tasks,) = connection.execute(_COUNT, (state,)).fetchone()
    return tasks or 0


def drained_s(connection: sqlite3.Connection) -> float:
    """Give the seconds from the first assignment to the last result."""
    first, last = connection.execute(_SPAN).fetchone()
    return float(last - first) / 1_000_000


def last_scheduled_finished_s(connection: sqlite3.Connection) -> float:
    """Give the Unix time when the last of the tasks with a `run_at` was finished."""
    (at,) = connection.execute(_LAST_SCHEDULED).fetchone()
    return float(at) / 1_000_000


def commits(connection: sqlite3.Connection, *, since: int = 0) -> list[Commit]:
    """List the transactions that moved tasks, in their order, from an instant on (Unix time in microseconds)."""
    return [Commit(*row) for row in connection.execute(_COMMITS, (since,))]


def require_submitted(connection: sqlite3.Connection, tasks: int, texts: Texts) -> None:
    """See that tasks number 0 to `tasks` - 1 wait, and no others.

    Raises:
        Failed: they do not.
    """
    _require(connection, tasks, lambda number: (texts.payload(number), "pending", None))


def require_completed(connection: sqlite3.Connection, tasks: int, texts: Texts) -> None:
    """See that tasks number 0 to `tasks` - 1 have their right results, and that there are no others.

    Raises:
        Failed: they have not.
    """
    _require(connection, tasks, lambda number: (texts.payload(number), "completed", texts.result(number)))


def require_run(connection: sqlite3.Connection, tasks: int, least: int, texts: Texts) -> None:
    """See that of `tasks` tasks at least so many have their right results, and that all others wait.

    Raises:
        Failed: that is not so.
    """
    right = wrong = 0
    for key, result in connection.execute(_COMPLETED):
        is_right = result == texts.result(number_of(key))
        right, wrong = right + is_right, wrong + (not is_right)
    (waiting,) = connection.execute(_UNTOUCHED).fetchone()
    if wrong or right < least or right + waiting != tasks:
        raise Failed(
            f"wanted {tasks:,} tasks, at least {least:,} of them run and all others waiting; found {right:,} with "
            f"their right results, {wrong:,} with wrong ones, and {waiting:,} that wait"
        )


def _require(connection: sqlite3.Connection, tasks: int, wanted: Callable[[int], tuple[str, str, str | None]]) -> None:
    # Keys are unique: so many rows, and each as it should be, are all.
    found = right = 0
    for key, *row in connection.execute(_TASKS):
        found += 1
        number = number_of(key)
        right += number < tasks and tuple(row) == wanted(number)
    if not found == right == tasks:
        raise Failed(f"wanted {tasks:,} tasks, found {found:,}, of them {right:,} as they should be")
