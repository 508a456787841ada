"""A store of an earlier release becomes one of this release, with everything that is in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dtm.storage.batch import Batch, Cancellation, Report, Success
from dtm.storage.errors import StoreRefused
from dtm.storage.inspect import revision_of
from dtm.storage.migrate import prepare
from dtm.storage.receipt import Cancelled, Verdict
from dtm.storage.schema import REVISION
from tests.storage.older import FIRST_RELEASE, older_store
from tests.storage.stage import FAILED, NOON, open_store, what_is_wrong

# A client at work on one task while another waits, as the first release wrote it.
WORK_OF_THE_FIRST_RELEASE = """
INSERT INTO clients (id, name, address, kinds, capacity, connected_at, last_heartbeat_at)
    VALUES (7, 'w1', '10.0.0.7:5000', '["add"]', 1, 5, 6);
INSERT INTO tasks (id, kind, payload, priority, state, retry_count, max_retries, created_at, assignment_id)
    VALUES (1, 'add', '[1, 2]', 0, 'assigned', 0, 3, 4, 9), (2, 'add', '[3]', 0, 'pending', 0, 3, 4, NULL);
INSERT INTO assignments (id, task_id, client_id, assigned_at) VALUES (9, 1, 7, 5);
INSERT INTO counts VALUES ('add', 'assigned', 1), ('add', 'pending', 1);
"""

# What else a store of a later release held, in every state that there was, and numbers higher than any left.
WORK_OF_LATER_RELEASES = """
INSERT INTO clients (id, name, address, kinds, capacity, connected_at, last_heartbeat_at, left_at, why, left_tasks)
    VALUES (3, 'w0', '10.0.0.7:5000', '["add"]', 1, 1, 2, 3, 'silent', '[3, 4]');
INSERT INTO tasks (id, kind, payload, priority, state, key, retry_count, max_retries, timeout, created_at, run_at,
    last_retry_at, finished_at, result, error) VALUES
    (3, 'add', '"€"', -5, 'completed', 'k3', 1, 3, 30000000, 4, 5, 6, 7, '{"sum": 1.50}', NULL),
    (4, 'mul', '[1]', 9, 'dead', NULL, 3, 3, NULL, 4, NULL, 8, 9, NULL, '{"type":"E","message":"","traceback":""}'),
    (5, 'add', '[2]', 0, 'scheduled', NULL, 1, 5, NULL, 4, 99, 5, NULL, NULL, '{"type":"E"}');
INSERT INTO assignments (id, task_id, client_id, assigned_at, finished_at, outcome, error) VALUES
    (1, 3, 3, 5, 6, 'died', '{"type":"ClientDied"}'), (2, 3, 3, 6, 7, 'completed', NULL),
    (3, 4, 3, 7, 9, 'failed', '{"type":"E"}'), (4, 5, 3, 4, 5, 'released', NULL);
INSERT INTO dead_letters (task_id, kind, reason, error, died_at) VALUES (4, 'mul', 'failed', 'E', 9);
INSERT INTO audit VALUES (1, 9, 'dead', '{}');
INSERT INTO counts VALUES ('add', 'completed', 1), ('mul', 'dead', 1), ('add', 'scheduled', 1);
UPDATE sqlite_sequence SET seq = 500;
"""
TABLES = ("tasks", "clients", "assignments", "dead_letters", "audit", "counts", "activity", "meta", "sqlite_sequence")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A store of the first release with a client at work."""
    path = tmp_path / "tasks.db"
    older_store(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(WORK_OF_THE_FIRST_RELEASE)
    return path


def test_it_is_migrated_once(db: Path) -> None:
    """The first start says what it did; the second finds nothing to do."""
    found = revision_of(db)
    first, second = prepare(db), prepare(db)

    assert found == FIRST_RELEASE
    assert (first, second) == (f"migrated from schema {FIRST_RELEASE} to {REVISION}", "opened")


def test_everything_is_still_there(db: Path) -> None:
    """And goes on: the client's result counts, and the books are right."""
    prepare(db)
    with closing(open_store(db)) as store:
        receipt = store.apply(Batch(reports=[Report(7, 1, 9, Success("3"))]), NOON)

    assert receipt.reports == [Verdict(accepted=True, state="completed")]
    assert what_is_wrong(db) == {}
    with closing(sqlite3.connect(db)) as connection:
        rows = connection.execute("SELECT id, payload, state, result FROM tasks").fetchall()
        clients = connection.execute("SELECT id, name, instance FROM clients").fetchall()
    assert rows == [(1, "[1, 2]", "completed", "3"), (2, "[3]", "pending", None)]
    assert clients == [(7, "w1", None)]


def content(path: Path) -> dict[str, list[dict[str, object]]]:
    """Read every row of a store by the names of its columns."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return {table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in TABLES}


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_every_row_is_as_it_was(tmp_path: Path, revision: str) -> None:
    """In every state, with what it has of values, errors and numbers; columns that are new hold nothing."""
    path = tmp_path / "tasks.db"
    older_store(path, revision)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(WORK_OF_THE_FIRST_RELEASE + WORK_OF_LATER_RELEASES)
    before = content(path)
    prepare(path)
    after = content(path)

    for table in TABLES:
        known = before[table][0].keys() if before[table] else set()
        assert [{name: row[name] for name in known} for row in after[table]] == before[table]
        assert {row[name] for row in after[table] for name in row.keys() - known} <= {None}


def test_what_is_new_works_in_an_older_store(db: Path) -> None:
    """The file's own rules were widened: it takes the new states, and still refuses what is none."""
    prepare(db)
    with closing(open_store(db)) as store:
        receipt = store.apply(Batch(cancellations=[Cancellation((1, 2))]), NOON)
        store.apply(Batch(reports=[Report(7, 1, 9, FAILED)]), NOON)

    assert receipt.cancellations == [Cancelled(["assigned", "cancelled"])]
    assert what_is_wrong(db) == {}
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("SELECT state FROM tasks").fetchall() == [("cancelled",), ("cancelled",)]
        assert connection.execute("SELECT outcome FROM assignments").fetchall() == [("cancelled",)]
        with pytest.raises(sqlite3.IntegrityError, match="ck_tasks_state"):
            connection.execute("UPDATE tasks SET state = 'lost'")
        with pytest.raises(sqlite3.IntegrityError, match="ck_assignments_outcome"):
            connection.execute("UPDATE assignments SET outcome = 'lost'")


def test_a_store_that_is_not_as_it_was_left_is_refused_whole(db: Path) -> None:
    """Somebody changed its tables: the file is not touched."""
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("ALTER TABLE assignments RENAME TO assigned")
        connection.execute("CREATE TABLE assignments AS SELECT * FROM assigned")
    before = content(db)

    with pytest.raises(StoreRefused, match="not as revision 0002 left it"):
        prepare(db)
    assert content(db) == before
