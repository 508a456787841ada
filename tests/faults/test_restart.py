"""How soon a server is back: with a million tasks in its database, however the last one ended."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from dtm.storage.migrate import prepare
from tests.acceptance.cluster import LISTENING, Cluster, end, kill, popen
from tests.waiting import in_the_end

TASKS = 1_000_000
WITHIN_S = 2.0

# Half of them wait, a quarter is scheduled for next year, a quarter is completed.
FILL = f"""
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {TASKS})
    INSERT INTO tasks (id, kind, payload, priority, state, key, retry_count, max_retries, created_at, run_at, result)
    SELECT n, 'HashText', '"word ' || n || '"', n % 3,
    CASE n % 4 WHEN 0 THEN 'scheduled' WHEN 1 THEN 'completed' ELSE 'pending' END,
    'key ' || n, 0, 3, 0, 2000000000000000, NULL FROM numbers;
    INSERT INTO counts (kind, state, tasks) SELECT kind, state, count(*) FROM tasks GROUP BY kind, state;
"""


@pytest.mark.soak
def test_a_server_with_a_million_tasks_is_back_soon(cluster: Cluster, figure: Callable[[str], None]) -> None:
    """From the command to the open port, imports included: after an orderly end and after kill -9 at work."""
    prepare(cluster.db)
    with closing(sqlite3.connect(cluster.db)) as connection:
        connection.executescript(FILL)
    # As anybody starts it, not forked from a process that has everything imported.
    installed = Cluster(cluster.program("x").parent, cluster.folder, popen)
    try:
        for how, stop in (("a clean end", end), ("kill -9 at work", kill)):
            server = installed.start_server()
            installed.start_client(f"before {how}", "--concurrency", "1")
            in_the_end(lambda: installed.rows("SELECT 1 FROM assignments WHERE outcome = 'completed' LIMIT 1"))
            stop(server)
            began_s = time.monotonic()
            _, log = installed.start("dtm-server", "--db", "tasks.db", "--port", "0")
            in_the_end(lambda log=log: re.search(LISTENING, log.read_text()))  # type: ignore[misc]
            took_s = time.monotonic() - began_s
            figure(f"{TASKS:,} tasks, {how}: listening {took_s:.2f} s after the command")
            assert took_s < WITHIN_S
            installed.kill_all()
    finally:
        installed.kill_all()
