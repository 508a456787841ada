"""The oracle sees what it is there to see: a sound world's store, altered by hand."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.simulation.journal import Journal
from tests.simulation.loop import SimulatedLoop, run
from tests.simulation.oracle import judge
from tests.simulation.scenario import WEEK_S
from tests.simulation.world import World, listening_to_logs

# A world with tasks that were completed and tasks that died.
SEED = 4
COMPLETED = "(SELECT max(id) FROM tasks WHERE state = 'completed')"
DEAD = "(SELECT max(id) FROM tasks WHERE state = 'dead')"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Journal, Path]:
    """A world that has lived: what was said in it, and the folder that it has left."""
    folder = tmp_path_factory.mktemp("world")

    async def main(loop: SimulatedLoop) -> Journal:
        world = World(loop, SEED, folder, None)
        with listening_to_logs(world.logged):
            outcome = await world.live()
        assert outcome.violations == []
        return world.journal

    return run(main), folder


def sql(statement: str) -> Callable[[Path], None]:
    """Alter the database."""

    def alter(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "tasks.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            assert connection.execute(statement).rowcount > 0

    return alter


def shorten_log(folder: Path) -> None:
    """Drop the log's last line."""
    log = folder / "dead.log"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("alter", "complaint"),
    [
        (sql(f"DELETE FROM tasks WHERE id = {COMPLETED}"), "was acknowledged and is not there"),
        (sql(f"UPDATE tasks SET key = 'another' WHERE id = {COMPLETED}"), "was acknowledged as"),
        (sql(f"UPDATE tasks SET payload = '1' WHERE id = {COMPLETED}"), "is what nobody submitted"),
        (sql(f"UPDATE tasks SET result = '1' WHERE id = {COMPLETED}"), "has a result that assignment"),
        (sql(f"UPDATE tasks SET retry_count = retry_count + 1 WHERE id = {COMPLETED}"), "failed attempts, counted"),
        (sql(f"UPDATE tasks SET state = 'pending' WHERE id = {COMPLETED}"), "is pending"),
        (sql(f"UPDATE tasks SET max_retries = 0 WHERE id = {DEAD}"), "times of at most 0"),
        (sql("UPDATE assignments SET outcome = 'released' WHERE outcome = 'completed'"), "was completed by []"),
        (sql("UPDATE assignments SET finished_at = NULL WHERE outcome = 'failed'"), "is dead"),
        (sql(f"UPDATE dead_letters SET task_id = 0 WHERE task_id = {DEAD}"), "with 0 open dead letters"),
        (sql(f"UPDATE tasks SET cancel_requested_at = 1 WHERE id = {DEAD}"), "was to stop at 1"),
        (sql(f"UPDATE tasks SET state = 'cancelled' WHERE id = {DEAD}"), "was to stop at None"),
        (sql(f"UPDATE tasks SET state = 'expired' WHERE id = {DEAD}"), "which was for None"),
        (sql(f"UPDATE tasks SET deadline_at = 1 WHERE id = {DEAD}"), "has a deadline and does not run"),
        (sql(f"UPDATE tasks SET expires_at = 1 WHERE id = {COMPLETED}"), "was begun although it had expired"),
        (
            sql(f"UPDATE tasks SET state = 'cancelled', finished_at = 1 WHERE id = {DEAD}"),
            "was begun although it was over",
        ),
        (sql("UPDATE assignments SET outcome = 'timed out' WHERE outcome = 'failed'"), "may take None and had"),
        (
            sql("UPDATE tasks SET kind = 'A', unique_key = 'u', created_at = id WHERE state = 'completed'"),
            "of the same kind and unique key, was active",
        ),
        (sql("DELETE FROM audit WHERE seq = 1"), "the audit"),
        (sql("UPDATE counts SET tasks = tasks + 1"), "the books say"),
        (sql("INSERT INTO activity VALUES (0, 'pruned', 1)"), "1 tasks were pruned"),
        (sql("UPDATE clients SET left_at = NULL WHERE id = 1"), "are present after the end"),
        (shorten_log, "they differ"),
    ],
)
def test_an_altered_store_is_noticed(
    sound: tuple[Journal, Path], tmp_path: Path, alter: Callable[[Path], None], complaint: str
) -> None:
    """Each alteration by the check that is there for it."""
    journal, folder = sound
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    journal.violations.clear()
    judge(journal, tmp_path, has_drained=True, keep_completed_s=WEEK_S)
    assert journal.violations == []
    alter(tmp_path)
    judge(journal, tmp_path, has_drained=True, keep_completed_s=WEEK_S)

    assert any(complaint in violation for violation in journal.violations), journal.violations
