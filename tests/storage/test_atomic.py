"""One transaction: what it holds comes or goes as a whole, by whichever way its statements went."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from dtm.storage.atomic import atomically
from dtm.storage.engine import driver_of, writer_engine
from dtm.storage.errors import StoreBusy


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A database with an empty table."""
    path = tmp_path / "tasks.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a INTEGER)")
    return path


@pytest.fixture
def connection(db: Path) -> Iterator[Connection]:
    """A connection that writes."""
    with writer_engine(db).connect() as connection:
        yield connection


def insert(connection: Connection, value: int, way: str) -> None:
    """Insert a row."""
    if way == "driver":
        driver_of(connection).execute(f"INSERT INTO t VALUES ({value})")
    elif way == "SQLAlchemy":
        connection.execute(text(f"INSERT INTO t VALUES ({value})"))
    else:
        with connection.begin_nested():
            insert(connection, value, "driver")


def found(db: Path) -> list[int]:
    """See what is in the table, from outside."""
    with closing(sqlite3.connect(db)) as another:
        return [value for (value,) in another.execute("SELECT a FROM t ORDER BY a")]


WAYS = pytest.mark.parametrize("way", ["driver", "SQLAlchemy", "savepoint"])


@WAYS
def test_it_is_there_once_the_context_ends_and_not_before(db: Path, connection: Connection, way: str) -> None:
    """And again with the next one."""
    for value in (1, 2):
        with atomically(connection):
            insert(connection, value, "driver")
            insert(connection, 10 * value, way)
            assert value not in found(db)
        assert {value, 10 * value} <= set(found(db))
        assert not connection.in_transaction()
    assert found(db) == [1, 2, 10, 20]


@WAYS
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt], ids=["data", "other"])
def test_what_fails_leaves_nothing(db: Path, connection: Connection, way: str, error: type[BaseException]) -> None:
    """The next transaction begins anew."""

    def fail() -> None:
        with atomically(connection):
            insert(connection, 1, way)
            insert(connection, 2, "driver")
            raise error

    for _ in range(2):
        with pytest.raises(error):
            fail()
        assert not driver_of(connection).in_transaction
        assert not connection.in_transaction()
    with atomically(connection):
        insert(connection, 3, way)
    assert found(db) == [3]


def test_it_takes_the_write_lock_as_it_begins(db: Path, connection: Connection) -> None:
    """So that no statement in it can be refused because of another program's."""
    with (
        closing(sqlite3.connect(db, isolation_level=None, timeout=0)) as another,
        atomically(connection),
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        another.execute("BEGIN IMMEDIATE")


def test_another_programs_transaction_is_told_apart(db: Path, connection: Connection) -> None:
    """Nothing has happened; it may be tried again."""

    def write() -> None:
        with atomically(connection):
            insert(connection, 1, "driver")

    driver_of(connection).execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(db, isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="write lock"):
            write()
        another.execute("ROLLBACK")
    write()
    assert found(db) == [1]
