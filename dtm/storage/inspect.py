"""What stands at a path, before anything is done with it: a store, or a reason why not.

Never writes, and never opens the database file itself: closing any descriptor of it would drop SQLite's locks.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError, MultipleResultsFound, NoResultFound

from dtm.storage.engine import reader_engine
from dtm.storage.errors import StoreMissing, StoreRefused
from dtm.storage.schema import APPLICATION_ID, BACKUP_MARK, REVISION

_VERSION = text("SELECT version_num FROM alembic_version")


def require_current(path: Path) -> None:
    """Make sure that `path` is a store of this version.

    Raises:
        StoreMissing: there is no such file.
        StoreRefused: it is no store, or one of another version.
    """
    revision = revision_of(path)
    if revision != REVISION:
        raise StoreRefused(
            path,
            f"has schema {revision}, older than {REVISION}",
            "start dtm-server on it once, which migrates it",
        )


def require_no_backup(path: Path) -> None:
    """Make sure that the store at `path`, which can be read, is no backup that was copied there.

    Raises:
        StoreRefused: it is one.
    """
    if is_backup(path):
        raise StoreRefused(
            path,
            "is a backup, and what has been done since it was made is not in it",
            f"move it to another name, and put it in place with: dtm-admin restore NAME --db {path}",
        )


def is_backup(path: Path) -> bool:
    """Say whether a database carries the mark of a backup of ours; what cannot be read carries none."""
    try:
        with reader_engine(path).connect() as connection:
            mark = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            owner = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    except (DatabaseError, StoreRefused, UnicodeDecodeError):
        return False
    return bool((owner, mark) == (APPLICATION_ID, BACKUP_MARK))


def revision_of(path: Path) -> str:
    """Say which migration the store at `path` has reached.

    Raises:
        StoreMissing: there is no such file.
        StoreRefused: it is no store, damaged, not writable, or newer than this program.
    """
    _require_writable_file(path)
    try:
        with reader_engine(path).connect() as connection:
            _require_ours(connection, path)
            _require_whole(connection, path)
            revision: object = connection.execute(_VERSION).scalar_one()
    except DatabaseError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        # SQLite's own message about the damage quotes it.
        raise StoreRefused(path, f"is no sound database ({error.reason})", "restore it from a backup") from error
    except (NoResultFound, MultipleResultsFound) as error:
        raise StoreRefused(path, f"does not say which schema it has ({error})", "restore it from a backup") from error
    if not isinstance(revision, str):
        raise StoreRefused(path, f"does not say which schema it has ({revision!r})", "restore it from a backup")
    if revision > REVISION:
        raise StoreRefused(
            path, f"has schema {revision}, newer than {REVISION}", "use the dtm that wrote it, or a newer one"
        )
    return revision


def _require_writable_file(path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise StoreMissing(path, "no such database", "name an existing one, or let dtm-server create it") from None
    except OSError as error:
        raise StoreRefused(path, f"cannot be looked at ({error.strerror})", "check the path and its rights") from error
    if not stat.S_ISREG(found.st_mode):
        raise StoreRefused(path, "is not a regular file", "name a database file")
    if found.st_size == 0:
        raise StoreRefused(path, "is empty, so no store", "restore it from a backup, or move it away to begin anew")
    if not os.access(path, os.R_OK | os.W_OK):
        raise StoreRefused(path, "may not be read and written", "check its owner and mode")
    if not os.access(path.parent, os.W_OK):
        raise StoreRefused(path, "lies in a folder that may not be written", "SQLite keeps its log beside the file")


def _require_ours(connection: Connection, path: Path) -> None:
    if connection.exec_driver_sql("PRAGMA application_id").scalar_one() != APPLICATION_ID:
        raise StoreRefused(path, "is another program's database", "name dtm's own, or a path that does not exist yet")


def _require_whole(connection: Connection, path: Path) -> None:
    page_size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    database = path.resolve()
    log = database.with_name(database.name + "-wal")
    # Pages that are still in the write-ahead log may lie beyond the file's end. The looking on made an empty one.
    log_size = log.stat().st_size if log.exists() else 0
    if not log_size and database.stat().st_size < pages * page_size:
        raise StoreRefused(path, "is cut short", "restore it from a backup")


def _unreadable(path: Path, error: DatabaseError) -> StoreRefused:
    reason = str(error.orig)
    if "locked" in reason:
        return StoreRefused(path, "is locked by another program", "end that program, or wait for it")
    if "readonly" in reason or "unable to open" in reason:
        return StoreRefused(path, f"cannot be opened ({reason})", "check its owner, its mode and its folder's")
    return StoreRefused(path, f"is no sound database ({reason})", "restore it from a backup")
