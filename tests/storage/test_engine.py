"""Connections: what SQLite really keeps of what it is told, and what each kind of connection may do."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from dtm.storage.engine import _engine, reader_engine, writer_engine
from dtm.storage.errors import StoreRefused

BOTH = {"trusted_schema": 0}
WRITER = {
    **BOTH,
    "journal_mode": "wal",
    "synchronous": 2,
    "fullfsync": 1,
    "checkpoint_fullfsync": 1,
    "foreign_keys": 1,
    "busy_timeout": 5_000,
    "journal_size_limit": 64 * 1024 * 1024,
    "query_only": 0,
}
READER = {**BOTH, "query_only": 1, "busy_timeout": 5_000, "journal_mode": "wal"}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A database with one table and one row, in a folder whose name needs care in an address."""
    folder = tmp_path / "50% off?#1 & more"
    folder.mkdir()
    path = folder / "tasks é.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1);")
    return path


@pytest.fixture
def writer(db: Path) -> Iterator[Connection]:
    """A connection that writes."""
    with writer_engine(db).connect() as connection:
        yield connection


@pytest.fixture
def reader(db: Path, writer: Connection) -> Iterator[Connection]:
    """A connection that reads, beside one that writes."""
    del writer
    with reader_engine(db).connect() as connection:
        yield connection


def raw(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, below every transaction."""
    driver: Any = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def settings(connection: Connection, names: dict[str, object]) -> dict[str, object]:
    """Ask SQLite itself what it keeps."""
    return {name: raw(connection).execute(f"PRAGMA {name}").fetchone()[0] for name in names}


def test_a_writer_waits_for_the_disk_at_each_commit(db: Path, writer: Connection) -> None:
    """`synchronous` 2 is FULL; with it and all the rest every connection is set, not just the first."""
    assert settings(writer, dict(WRITER)) == WRITER
    with writer_engine(db).connect() as another:
        assert settings(another, dict(WRITER)) == WRITER


def test_a_reader_is_set_as_it_should_be(reader: Connection) -> None:
    """It changes nothing, and trusts nothing that the file says about functions."""
    assert settings(reader, dict(READER)) == READER


def test_a_reader_cannot_write(reader: Connection) -> None:
    """Neither rows nor tables, not even by way of a setting."""
    for statement in ("INSERT INTO t VALUES (2)", "DELETE FROM t", "DROP TABLE t", "CREATE TABLE u (a)"):
        with pytest.raises(OperationalError, match="readonly"), reader.begin():
            reader.exec_driver_sql(statement)
    raw(reader).execute("PRAGMA query_only = 0")
    with pytest.raises(OperationalError, match="readonly"), reader.begin():
        reader.exec_driver_sql("INSERT INTO t VALUES (2)")


def test_a_writers_transaction_holds_the_lock_from_its_start(db: Path, writer: Connection) -> None:
    """Whoever reads before it writes cannot be overtaken in between."""
    with writer.begin():
        assert writer.exec_driver_sql("SELECT a FROM t").scalar_one() == 1
        with (
            closing(sqlite3.connect(db, timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")


def test_a_reader_sees_one_moment_and_keeps_nobody_waiting(reader: Connection, writer: Connection) -> None:
    """While it looks, a writer commits; what it sees stays as it was until it looks again."""
    look = "SELECT count(*) FROM t"
    with reader.begin():
        before = reader.exec_driver_sql(look).scalar_one()
        with writer.begin():
            writer.exec_driver_sql("INSERT INTO t VALUES (2)")
        after = reader.exec_driver_sql(look).scalar_one()
    with reader.begin():
        again = reader.exec_driver_sql(look).scalar_one()

    assert (before, after, again) == (1, 1, 2)


def test_what_a_writer_rolls_back_is_gone(writer: Connection) -> None:
    """The driver opens and commits nothing by itself, tables included."""
    with writer.begin() as transaction:
        writer.exec_driver_sql("CREATE TABLE u (a)")
        writer.exec_driver_sql("INSERT INTO t VALUES (2)")
        transaction.rollback()
    with writer.begin():
        tables = writer.exec_driver_sql("SELECT group_concat(name) FROM sqlite_schema").scalar_one()
        rows = writer.exec_driver_sql("SELECT count(*) FROM t").scalar_one()

    assert (tables, rows) == ("t", 1)


@pytest.mark.parametrize("engine", [writer_engine, reader_engine], ids=["writer", "reader"])
def test_a_file_that_does_not_exist_is_not_made(tmp_path: Path, engine: Callable[[Path], Engine]) -> None:
    """A slip in a path gives an error, never an empty database."""
    with pytest.raises(OperationalError, match="unable to open"):
        engine(tmp_path / "slip.db").connect()
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_sqlite_does_not_keep_is_an_error(db: Path) -> None:
    """It is read back: a file system without a write-ahead log answers with another mode, not with an error."""
    with pytest.raises(StoreRefused, match=r"wanted synchronous = 99, and SQLite keeps \d+; put the database on"):
        _engine(db, mode="rw", settings={"synchronous": 99}, begin="BEGIN").connect()
