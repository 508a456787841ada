"""Bring the file at a path to this version: create it, or migrate it, each whole or not at all.

The caller holds the store's lock.
"""

from __future__ import annotations

import errno
import os
from importlib.resources import as_file, files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from dtm.storage.disk import sync
from dtm.storage.engine import writer_engine
from dtm.storage.errors import StoreMissing, StoreRefused
from dtm.storage.inspect import revision_of
from dtm.storage.schema import REVISION


def prepare(path: Path) -> str:
    """Make sure that a store of this version stands at `path`, and say what that took.

    Returns:
        `created`, `opened`, or `migrated from …`.

    Raises:
        StoreRefused: what stands there is no store, or cannot be written.
    """
    try:
        found = revision_of(path)
    except StoreMissing:
        _create(path)
        return "created"
    # A crash right after the creation leaves a name that can be read and is perhaps not on disk yet.
    sync(path.parent)
    if found == REVISION:
        return "opened"
    _upgrade(path)
    return f"migrated from schema {found} to {REVISION}"


def _create(path: Path) -> None:
    # Built under another name: a crash on the way leaves no half store at `path`.
    draft = path.with_name(path.name + ".new")
    log, *others = (draft.with_name(draft.name + end) for end in ("-wal", "-shm", "-journal"))
    try:
        for leftover in (draft, log, *others):
            leftover.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        _migrate(draft)
        if log.exists():
            # Closing merges the log into the file, and says nothing when the disk is too full for that.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(draft)
        draft.rename(path)
        sync(path.parent)
    except OSError as error:
        raise StoreRefused(
            path, f"cannot be created ({error.strerror})", "check that its folder exists, may be written and has room"
        ) from error
    except DatabaseError as error:
        raise StoreRefused(path, f"cannot be created ({error.orig})", "check the disk, and that it has room") from error


def _upgrade(path: Path) -> None:
    try:
        _migrate(path)
    except DatabaseError as error:
        raise StoreRefused(
            path, f"cannot be migrated ({error.orig})", "nothing was changed; mend that first"
        ) from error
    except CommandError as error:
        raise StoreRefused(
            path, f"cannot be migrated ({error})", "nothing was changed; use the dtm that wrote it"
        ) from error


def _migrate(path: Path) -> None:
    engine = writer_engine(path)
    try:
        with engine.begin() as connection:
            _run_migrations(connection)
    finally:
        engine.dispose()


def _run_migrations(connection: Connection) -> None:
    with as_file(files("dtm_migrations")) as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
