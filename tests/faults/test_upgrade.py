"""A release with a second migration, made of this one: an older store is migrated whole, a newer one refused whole.

There is only one migration yet, so the next release is made up: a copy of the product with one more.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dtm.storage.batch import NewTask
from dtm.storage.reader import Reader
from dtm.storage.schema import REVISION
from tests.storage.stage import Stage

TOP = Path(__file__).parents[2]

_NEXT = f'''
"""A column more, and every row rewritten."""
import sqlalchemy as sa
from alembic import op

revision = "9002"
down_revision = "{REVISION}"
branch_labels = None
depends_on = None

def upgrade() -> None:
    op.add_column("tasks", sa.Column("note", sa.Text))
    op.execute("UPDATE tasks SET note = 'older'")
'''

_PREPARE = """
import os, signal, sys
from pathlib import Path
from dtm.core.errors import DtmError
from dtm.storage import migrate

steps = int(sys.argv[2])
def trace(statement):
    global steps
    steps -= 1
    if steps == 0:
        os.kill(os.getpid(), signal.SIGKILL)

import sqlite3
connect = sqlite3.connect
def traced(*arguments, **options):
    connection = connect(*arguments, **options)
    if steps > 0:
        connection.set_trace_callback(trace)
    return connection
sqlite3.connect = traced
try:
    print(migrate.prepare(Path(sys.argv[1])))
except DtmError as error:
    print(error)
"""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """An empty store; what becomes of it is not this release's any more."""
    return Stage(tmp_path / "tasks.db")


@pytest.fixture(scope="module")
def next_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the product's next release."""
    folder = tmp_path_factory.mktemp("next")
    shutil.copytree(TOP / "dtm", folder / "dtm")
    shutil.copytree(TOP / "migrations", folder / "dtm_migrations")
    (folder / "dtm_migrations" / "versions" / "v9002_note.py").write_text(_NEXT)
    schema = folder / "dtm" / "storage" / "schema.py"
    text = schema.read_text()
    assert f'REVISION = "{REVISION}"' in text
    schema.write_text(text.replace(f'REVISION = "{REVISION}"', 'REVISION = "9002"'))
    return folder


def run(release: Path, db: Path, *, kill_at: int = 0) -> tuple[int, str]:
    """Prepare the store with a release, and kill it at one of its statements; give exit code and output."""
    done = subprocess.run(
        [sys.executable, "-c", _PREPARE, str(db), str(kill_at)],
        cwd=release,  # the first place that Python looks in
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode, done.stdout.strip()


def notes(db: Path) -> list[tuple[str, int]] | None:
    """Count the rows by what the next release wrote into them; None if it has not been there."""
    with closing(sqlite3.connect(db)) as connection:
        if not connection.execute("SELECT 1 FROM pragma_table_info('tasks') WHERE name = 'note'").fetchone():
            return None
        return connection.execute("SELECT note, count(*) FROM tasks GROUP BY note").fetchall()


def test_an_older_store_is_migrated_and_then_refused_by_the_older_release(stage: Stage, next_release: Path) -> None:
    """Every task is there; and this release leaves every byte of the newer file as it is."""
    stage.bury(*[NewTask("add", "1")] * 5)
    stage.close()
    outcome = run(next_release, stage.path)
    before = stage.path.read_bytes()
    refused = run(TOP, stage.path)

    assert outcome == (0, f"migrated from schema {REVISION} to 9002")
    assert notes(stage.path) == [("older", 5)]
    assert "has schema 9002, newer than" in refused[1]
    assert stage.path.read_bytes() == before


def test_a_kill_at_any_statement_of_a_migration_leaves_the_one_or_the_other(stage: Stage, next_release: Path) -> None:
    """Never a store that is both; the next start finishes it."""
    stage.bury(*[NewTask("add", "1")] * 5)
    stage.close()
    whole = stage.path.read_bytes()
    seen, kill_at, code = set[str](), 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        kill_at += 3
        for path in stage.path.parent.glob("tasks.db*"):
            path.unlink()
        stage.path.write_bytes(whole)
        code, _ = run(next_release, stage.path, kill_at=kill_at)
        found = notes(stage.path)
        seen.add("new" if found else "old")
        assert found in (None, [("older", 5)])
        if found is None:
            with closing(Reader.open(stage.path)) as reader:
                assert len([task for task in reader.tasks_by_id(range(1, 6)) if task]) == 5
        assert run(next_release, stage.path)[0] == 0
        assert notes(stage.path) == [("older", 5)]

    assert (seen, kill_at > 12) == ({"old", "new"}, True)
