"""A store of an earlier release becomes one of this release, with everything that is in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dtm.storage.batch import Batch, Report, Success
from dtm.storage.inspect import revision_of
from dtm.storage.migrate import prepare
from dtm.storage.receipt import Verdict
from dtm.storage.schema import REVISION
from tests.storage.older import FIRST_RELEASE, older_store
from tests.storage.stage import NOON, open_store, what_is_wrong

# A client at work on one task while another waits, as the first release wrote it.
WORK_OF_THE_FIRST_RELEASE = """
INSERT INTO clients (id, name, address, kinds, capacity, connected_at, last_heartbeat_at)
    VALUES (7, 'w1', '10.0.0.7:5000', '["add"]', 1, 5, 6);
INSERT INTO tasks (id, kind, payload, priority, state, retry_count, max_retries, created_at, assignment_id)
    VALUES (1, 'add', '[1, 2]', 0, 'assigned', 0, 3, 4, 9), (2, 'add', '[3]', 0, 'pending', 0, 3, 4, NULL);
INSERT INTO assignments (id, task_id, client_id, assigned_at) VALUES (9, 1, 7, 5);
INSERT INTO counts VALUES ('add', 'assigned', 1), ('add', 'pending', 1);
"""


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
