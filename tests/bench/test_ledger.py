"""No figure without its tasks: a run whose database holds anything else than wanted fails."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bench import floor, ledger
from bench.ledger import Commit
from bench.process import Failed
from bench.texts import Texts

TASKS = 3
TEXTS = Texts(100)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Three tasks, each with its right result."""
    floor.replay(tmp_path, [Commit(TASKS, TASKS, 0), Commit(0, 0, TASKS)], TEXTS)
    return tmp_path / "floor.db"


def test_right_results_pass(db: Path) -> None:
    """What is all there and right is not refused."""
    with ledger.reading(db) as connection:
        ledger.require_completed(connection, TASKS, TEXTS)


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE tasks SET result = '\"e3b0\"' WHERE id = 1",
        "UPDATE tasks SET result = NULL WHERE id = 1",
        "UPDATE tasks SET payload = '\"text 7\"' WHERE id = 1",
        "UPDATE tasks SET state = 'dead' WHERE id = 1",
        "UPDATE tasks SET key = 'bench-7' WHERE id = 1",
        "DELETE FROM tasks WHERE id = 1",
        """INSERT INTO tasks (kind, payload, key, created_at, state, priority, retry_count, max_retries)
        VALUES ('HashText', '"text 3"', 'bench-3', 0, 'pending', 0, 0, 3)""",
    ],
)
def test_a_single_wrong_row_fails_the_run(db: Path, wrong: str) -> None:
    """A wrong result, a missing one, another task, one too few, one too many: each is found."""
    with closing(sqlite3.connect(db)) as connection:
        connection.execute(wrong)

        with pytest.raises(Failed, match="wanted 3 tasks"):
            ledger.require_completed(connection, TASKS, TEXTS)


@pytest.mark.parametrize(
    ("wrong", "least"),
    [
        ("UPDATE tasks SET result = '\"e3b0\"' WHERE id = 1", 1),
        ("UPDATE tasks SET retry_count = 1 WHERE id = 3", 1),
        ("DELETE FROM tasks WHERE id = 3", 1),
        ("SELECT 1", 3),
    ],
)
def test_a_part_that_ran_must_be_right_and_the_rest_untouched(tmp_path: Path, wrong: str, least: int) -> None:
    """Where not all tasks run, a wrong result, an attempt, a lost task or too few runs fail the run all the same."""
    floor.replay(tmp_path, [Commit(4, 2, 0), Commit(0, 0, 2)], TEXTS)
    with closing(sqlite3.connect(tmp_path / "floor.db")) as connection:
        ledger.require_run(connection, 4, 2, TEXTS)
        connection.execute(wrong)

        with pytest.raises(Failed, match="wanted 4 tasks"):
            ledger.require_run(connection, 4, least, TEXTS)
