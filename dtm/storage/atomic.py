"""One transaction: all of it or nothing, and the disk's errors told apart from the data's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
)

from dtm.storage.engine import BEGIN_WRITING, driver_of
from dtm.storage.errors import StoreBusy, StoreFailed

DATA_ERRORS = (IntegrityError, DataError, InterfaceError, ProgrammingError, OverflowError, ValueError)
"""What one item's content can cause; its neighbours in the batch are sound."""


@contextmanager
def atomically(connection: Connection) -> Iterator[None]:
    """BEGIN, then COMMIT or ROLLBACK; straight to the driver, as SQLAlchemy's part of it takes longer than SQLite's.

    Raises:
        StoreBusy: another program's transaction blocks it.
        StoreFailed: the disk failed; whether anything was saved is unknown.
        Exception: one of `DATA_ERRORS`, or what the caller raised; nothing was saved.
    """
    driver = driver_of(connection)
    try:
        driver.execute(BEGIN_WRITING)
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise StoreBusy(f"another program holds the database's write lock ({error})") from error
        raise StoreFailed(f"no transaction can begin ({error})") from error
    try:
        yield
        _holder(connection, driver).commit()
    except DATA_ERRORS:
        _holder(connection, driver).rollback()
        raise
    except (DatabaseError, sqlite3.Error) as error:
        # No rollback: after such an error it may fail too, and the process ends anyway. The driver's own is one that
        # came up while rows were read, or in the commit.
        reason = error.orig if isinstance(error, DatabaseError) else error
        raise StoreFailed(
            f"the database failed ({reason}); what was acknowledged is safe: make room or mend the disk, then start"
        ) from error
    except BaseException:
        _holder(connection, driver).rollback()
        raise


def _holder(connection: Connection, driver: sqlite3.Connection) -> Connection | sqlite3.Connection:
    """Give whoever has to end the transaction: SQLAlchemy takes part in it from the first statement through it on."""
    return connection if connection.in_transaction() else driver
