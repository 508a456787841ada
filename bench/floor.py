"""The floor: the same rows in the same transactions, written by bare SQLite on the same disk.

No server can be faster than this without larger transactions. The tables, indexes and settings are dtm's own.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import msgspec

from bench.ledger import Commit
from bench.process import Failed
from bench.texts import KIND, SHORT, Texts, key, number_of
from dtm.storage.engine import writer_engine
from dtm.storage.migrate import prepare

FULL = 2
PROMOTED = 1_000
"""Tasks that fall due in a transaction."""

_INSERT_CLIENT = """
    INSERT INTO clients (id, name, address, kinds, capacity, connected_at, last_heartbeat_at)
    VALUES (0, 'floor', 'none', '[]', 1, 0, 0)
"""
_CREATE = """
    INSERT INTO tasks (id, kind, payload, key, created_at, state, priority, retry_count, max_retries)
    VALUES (?, ?, ?, ?, ?, 'pending', 0, 0, 3)
"""
_SCHEDULE = """
    INSERT INTO tasks (id, kind, payload, key, created_at, run_at, state, priority, retry_count, max_retries)
    VALUES (?, ?, ?, ?, 1, 1, 'scheduled', 0, 0, 3)
"""
_WAITING = """
    SELECT id, key FROM tasks WHERE state = 'pending' AND kind IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?
"""
_PROMOTE = "UPDATE tasks SET state = 'pending' WHERE id = ? AND state = 'scheduled'"
_INSERT_ASSIGNMENT = "INSERT INTO assignments (id, task_id, client_id, assigned_at) VALUES (?, ?, 0, ?)"
_ASSIGN = "UPDATE tasks SET state = 'assigned', assignment_id = ? WHERE id = ? AND state = 'pending'"
_FINISH_ASSIGNMENT = """
    UPDATE assignments SET finished_at = ?, outcome = 'completed' WHERE id = ? AND finished_at IS NULL
"""
_COMPLETE = """
    UPDATE tasks SET state = 'completed', assignment_id = NULL, finished_at = ?, result = ?
    WHERE id = ? AND assignment_id = ? AND state = 'assigned'
"""


def replay(folder: Path, commits: Sequence[Commit], texts: Texts) -> list[float]:
    """Carry out `commits` on an empty database in `folder`, and give the seconds that each took."""
    db = folder / "floor.db"
    prepare(db)
    with _writing(db) as connection:
        tasks = [(n, n) for n in range(sum(commit.created for commit in commits))]
        work = _Work(connection, texts, to_create=tasks, to_run=tasks)
        return [work.carry_out(commit) for commit in commits]


def replay_on(db: Path, commits: Sequence[Commit], texts: Texts, *, first: int) -> list[float]:
    """Carry out `commits` on a store that nobody else has open: new tasks get the numbers from `first` on.

    Returns:
        The seconds that each took.
    """
    with _writing(db) as connection:
        (last_id,) = connection.execute("SELECT max(id) FROM tasks").fetchone()
        to_create = [(last_id + 1 + n, first + n) for n in range(sum(commit.created for commit in commits))]
        kinds, most = msgspec.json.encode(texts.names).decode(), sum(commit.assigned for commit in commits)
        to_run = [(id, number_of(key)) for id, key in connection.execute(_WAITING, (kinds, most))]
        work = _Work(connection, texts, to_create=to_create, to_run=to_run)
        return [work.carry_out(commit) for commit in commits]


def promote(folder: Path, tasks: int) -> list[float]:
    """Make `tasks` scheduled tasks of an own database in `folder` pending, and give the seconds of each transaction."""
    db = folder / "floor-due.db"
    prepare(db)
    with _writing(db) as connection:
        rows = ((n, KIND, SHORT.payload(n), key(n)) for n in range(tasks))
        _timed(connection, partial(connection.executemany, _SCHEDULE, rows))
        parts = [[(n,) for n in range(first, min(first + PROMOTED, tasks))] for first in range(0, tasks, PROMOTED)]
        return [_timed(connection, partial(connection.executemany, _PROMOTE, part)) for part in parts]


def _timed(connection: sqlite3.Connection, change: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    change()
    connection.execute("COMMIT")
    return time.perf_counter() - began_s


@contextmanager
def _writing(db: Path) -> Iterator[sqlite3.Connection]:
    engine = writer_engine(db)
    fairy = engine.raw_connection()
    try:
        connection = cast("sqlite3.Connection", fairy.driver_connection)
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        if synchronous != FULL:
            raise Failed(f"wanted dtm to write with synchronous = {FULL} (FULL), found {synchronous}")
        yield connection
    finally:
        fairy.close()
        engine.dispose()


_Tasks = Sequence[tuple[int, int]]
"""Their ids and numbers."""


class _Work:
    """Tasks are created, assigned and completed in their order."""

    def __init__(self, connection: sqlite3.Connection, texts: Texts, *, to_create: _Tasks, to_run: _Tasks) -> None:
        self._connection = connection
        connection.execute(_INSERT_CLIENT)
        # Made before the clock runs: the floor is the database's work alone. An assignment has its task's id.
        self._to_create = iter([(id, texts.kind(n), texts.payload(n), key(n), 1) for id, n in to_create])
        self._to_insert = iter([(id, id, 1) for id, _ in to_run])
        self._to_assign = iter([(id, id) for id, _ in to_run])
        self._to_finish = iter([(1, id) for id, _ in to_run])
        self._to_complete = iter([(1, texts.result(n), id, id) for id, n in to_run])

    def carry_out(self, commit: Commit) -> float:
        return _timed(self._connection, partial(self._change, commit))

    def _change(self, commit: Commit) -> None:
        connection = self._connection
        connection.executemany(_FINISH_ASSIGNMENT, islice(self._to_finish, commit.completed))
        connection.executemany(_COMPLETE, islice(self._to_complete, commit.completed))
        connection.executemany(_CREATE, islice(self._to_create, commit.created))
        connection.executemany(_INSERT_ASSIGNMENT, islice(self._to_insert, commit.assigned))
        connection.executemany(_ASSIGN, islice(self._to_assign, commit.assigned))
