"""Connections to the file: opened right, with their settings read back.

Knows no tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from dtm.storage.errors import StoreRefused

SAFE_SQLITE = (3, 51, 3)
"""Before this version two connections that write or checkpoint at once can corrupt a WAL database
(https://sqlite.org/wal.html, "the WAL-reset bug"); dtm keeps all writes and checkpoints in one connection."""

_OLDEST_SQLITE = (3, 37)  # STRICT tables

_BUSY_TIMEOUT_S = 5.0
# The write-ahead log shrinks back to this after a burst; below it the file is reused, which saves the disk work.
_JOURNAL_SIZE_LIMIT = 64 * 1024 * 1024
_PAGE_CACHE_KIB = 48 * 1024

BEGIN_WRITING = "BEGIN IMMEDIATE"

# An engine keeps no connection, only what it has compiled: opening the same file again then compiles nothing anew.
_MOST_ENGINES = 4

_WRITER_SETTINGS: dict[str, str | int] = {
    "journal_mode": "wal",
    "synchronous": 2,  # FULL: each commit waits for its fsync
    "fullfsync": 1,  # macOS: an fsync that reaches the disk, not just the drive's cache
    "checkpoint_fullfsync": 1,
    "foreign_keys": 1,
    "trusted_schema": 0,
    "journal_size_limit": _JOURNAL_SIZE_LIMIT,
    "cache_size": -_PAGE_CACHE_KIB,
}
_READER_SETTINGS: dict[str, str | int] = {"query_only": 1, "trusted_schema": 0}


@lru_cache(_MOST_ENGINES)
def writer_engine(path: Path) -> Engine:
    """Connect for writing; the file must exist. Every transaction takes the write lock as it begins."""
    return _engine(path, mode="rw", settings=_WRITER_SETTINGS, begin=BEGIN_WRITING)


@lru_cache(_MOST_ENGINES)
def reader_engine(path: Path) -> Engine:
    """Connect for reading only; every transaction sees one moment of the database."""
    return _engine(path, mode="ro", settings=_READER_SETTINGS, begin="BEGIN")


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Give the driver's own connection."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _engine(path: Path, *, mode: str, settings: dict[str, str | int], begin: str) -> Engine:
    engine = create_engine("sqlite+pysqlite://", creator=_creator(path, mode, settings), poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        driver = driver_of(connection)
        if driver.in_transaction:
            return  # it was begun below SQLAlchemy, which has only now been given a statement
        try:
            driver.execute(begin)
        except sqlite3.Error as error:
            raise DBAPIError.instance(begin, (), error, sqlite3.Error, dialect=connection.dialect) from error

    return engine


def _creator(path: Path, mode: str, settings: dict[str, str | int]) -> Callable[[], sqlite3.Connection]:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise StoreRefused(path, f"needs SQLite 3.37, and this is {sqlite3.sqlite_version}", "use a newer Python")
        # isolation_level=None: the driver begins nothing by itself, the event above does. The connection moves
        # between worker threads, one at a time.
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT_S
        )
        try:
            for name, value in settings.items():
                _set(connection, name, value, path)
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def _set(connection: sqlite3.Connection, name: str, value: str | int, path: Path) -> None:
    connection.execute(f"PRAGMA {name} = {value}")
    (found,) = connection.execute(f"PRAGMA {name}").fetchone()
    if found != value:
        raise StoreRefused(
            path,
            f"wanted {name} = {value}, and SQLite keeps {found}",
            "put the database on a local file system that supports SQLite's write-ahead log",
        )
