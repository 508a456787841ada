"""The tables that the migrations make are those that the code is written for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import dtm_migrations
from dtm.storage.engine import reader_engine
from dtm.storage.migrate import prepare
from dtm.storage.schema import APPLICATION_ID, REVISION, metadata


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A store as the migrations make it."""
    path = tmp_path / "tasks.db"
    prepare(path)
    return path


def definitions(path: Path) -> dict[str, str]:
    """Give the SQL of every table and index, as SQLite keeps it, but for blanks and quotes."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    # A column that came later stands on the line of the one before.
    return {name: " ".join(sql.replace('"', "").replace(",", " , ").replace(")", " )").split()) for name, sql in found}


def test_alembic_finds_no_difference(db: Path) -> None:
    """Tables, columns, types, keys and indexes are the same on both sides."""
    with reader_engine(db).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": metadata})

        assert compare_metadata(context, metadata) == []


def test_every_definition_is_the_same_to_the_letter(db: Path, tmp_path: Path) -> None:
    """Also what Alembic does not compare: CHECKs, STRICT, AUTOINCREMENT, and where an index is partial."""
    drawn = tmp_path / "drawn.db"
    engine = create_engine(f"sqlite:///{drawn}")
    metadata.create_all(engine)
    engine.dispose()
    migrated = definitions(db)
    alembics_own = migrated.pop("alembic_version")

    assert "version_num" in alembics_own
    assert migrated == definitions(drawn)


def test_every_table_is_strict(db: Path) -> None:
    """SQLite refuses a value of another type instead of keeping it."""
    with closing(sqlite3.connect(db)) as connection:
        loose = connection.execute(
            "SELECT name FROM pragma_table_list WHERE NOT strict AND schema = 'main' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()

    assert loose == [("alembic_version",)]


def test_the_code_is_written_for_the_newest_migration() -> None:
    """Whoever adds a migration adds what needs it."""
    (folder,) = dtm_migrations.__path__
    config = Config()
    config.set_main_option("script_location", folder)

    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_the_file_is_signed(db: Path) -> None:
    """Nobody takes another program's database for a store, and `file` can name it."""
    with closing(sqlite3.connect(db)) as connection:
        (found,) = connection.execute("PRAGMA application_id").fetchone()

    assert found == APPLICATION_ID == int.from_bytes(b"dtm1", "big")


def test_each_store_is_its_own(tmp_path: Path) -> None:
    """Two stores can be told apart, and each has counted no opening yet."""
    found: list[tuple[int, int, int, int, str]] = []
    for name in ("one.db", "two.db"):
        prepare(tmp_path / name)
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            found += connection.execute("SELECT id, epoch, log_position, length(store_id), store_id FROM meta")

    assert [row[:4] for row in found] == [(1, 0, 0, 32)] * 2
    assert found[0][4] != found[1][4]


WRONG = {
    "a state that does not exist": "INSERT INTO tasks (kind, payload, priority, state, retry_count, max_retries,"
    " created_at) VALUES ('a', '1', 0, 'lost', 0, 3, 0)",
    "assigned to nobody": "UPDATE tasks SET state = 'assigned'",
    "pending and assigned": "UPDATE tasks SET assignment_id = 1",
    "scheduled for never": "UPDATE tasks SET state = 'scheduled'",
    "a priority that is a text": "UPDATE tasks SET priority = 'high'",
    "a priority that is broken": "UPDATE tasks SET priority = 1.5",
    "an assignment of no task": "INSERT INTO assignments (task_id, client_id, assigned_at) VALUES (99, 1, 0)",
    "an assignment to no client": "INSERT INTO assignments (task_id, client_id, assigned_at) VALUES (1, 99, 0)",
    "an outcome without an instant": "INSERT INTO assignments (task_id, client_id, assigned_at, outcome)"
    " VALUES (1, 1, 0, 'failed')",
    "an instant without an outcome": "INSERT INTO assignments (task_id, client_id, assigned_at, finished_at)"
    " VALUES (1, 1, 0, 0)",
    "an outcome that does not exist": "INSERT INTO assignments (task_id, client_id, assigned_at, finished_at, outcome)"
    " VALUES (1, 1, 0, 0, 'lost')",
    "a key twice": "INSERT INTO tasks (kind, payload, priority, state, retry_count, max_retries, created_at, key)"
    " VALUES ('a', '1', 0, 'pending', 0, 3, 0, 'k')",
    "two open letters of a task": "INSERT INTO dead_letters (task_id, kind, reason, error, died_at)"
    " VALUES (1, 'a', 'failed', '', 0)",
    "a letter resolved at no time": "UPDATE dead_letters SET resolution = 'cleared'",
    "a letter resolved in no way": "UPDATE dead_letters SET resolved_at = 0",
    "a resolution that does not exist": "UPDATE dead_letters SET resolution = 'lost', resolved_at = 0",
    "a second row of meta": "INSERT INTO meta (id, store_id, epoch, log_position) VALUES (2, '', 0, 0)",
    "a task deleted under its attempts": "DELETE FROM tasks",
}


@pytest.mark.parametrize("statement", WRONG.values(), ids=WRONG.keys())
def test_the_file_itself_refuses_what_cannot_be(db: Path, statement: str) -> None:
    """Whatever a program gets wrong, these it cannot save."""
    with closing(sqlite3.connect(db)) as connection:
        connection.executescript(
            """
            PRAGMA foreign_keys = ON;
            INSERT INTO tasks (id, kind, payload, priority, state, retry_count, max_retries, created_at, key)
                VALUES (1, 'a', '1', 0, 'pending', 0, 3, 0, 'k');
            INSERT INTO clients (id, name, address, kinds, capacity, connected_at, last_heartbeat_at)
                VALUES (1, 'w', '', '[]', 1, 0, 0);
            INSERT INTO assignments (task_id, client_id, assigned_at, finished_at, outcome)
                VALUES (1, 1, 0, 0, 'released');
            INSERT INTO dead_letters (task_id, kind, reason, error, died_at) VALUES (1, 'a', 'failed', '', 0);
            """
        )
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
