"""Waiting tasks by the million, put straight into a database: through the wire that would take minutes.

They and the books are what dtm itself would have written; a test holds `dtm-admin check` against them.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from bench.process import Failed
from bench.texts import Texts, key
from dtm.storage.disk import sync
from dtm.storage.migrate import prepare

# More than a task takes in the table and its indexes, with room for what the benchmark adds.
_BYTES_PER_TASK = 400
_CACHE_KIB = 256 * 1024

_INSERT = """
    INSERT INTO tasks (id, kind, payload, key, created_at, state, priority, retry_count, max_retries)
    VALUES (?, ?, ?, ?, ?, 'pending', 0, 0, 3)
"""
_BOOK = "INSERT INTO counts (kind, state, tasks) SELECT kind, state, count(*) FROM tasks GROUP BY kind, state"


def fill(db: Path, parts: Sequence[tuple[int, Texts]]) -> None:
    """Make a store at `db` in which so many tasks of each part wait, numbered from 0 through all parts.

    Raises:
        Failed: the disk has no room for them.
    """
    tasks = sum(size for size, _ in parts)
    wanted, free = tasks * _BYTES_PER_TASK, shutil.disk_usage(db.parent).free
    if free < wanted:
        raise Failed(
            f"wanted {wanted >> 20:,} MiB of disk for {tasks:,} tasks in {db.parent}, found {free >> 20:,} MiB"
        )
    prepare(db)
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        # Whatever happens to this file now, nobody will miss it.
        for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("BEGIN")
        connection.executemany(_INSERT, _rows(parts))
        connection.execute(_BOOK)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    # Or the first commits of the benchmark would wait for it.
    sync(db)


def _rows(parts: Sequence[tuple[int, Texts]]) -> Iterable[tuple[int, str, str, str, int]]:
    now = time.time_ns() // 1_000
    first = 0
    for size, texts in parts:
        for n in range(first, first + size):
            yield n + 1, texts.kind(n), texts.payload(n), key(n), now
        first += size
