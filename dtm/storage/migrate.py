"""Bring the file at a path to this version: create it, or migrate it, each whole or not at all.

The caller holds the store's lock.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from dtm.storage.disk import sync
from dtm.storage.draft import put_in_place, require_no_remains
from dtm.storage.engine import writer_engine
from dtm.storage.errors import StoreMissing, StoreRefused
from dtm.storage.inspect import require_no_backup, revision_of
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
        require_no_remains(path)
        put_in_place(path, migrate)
        return "created"
    require_no_backup(path)
    # A crash right after the creation leaves a name that can be read and is perhaps not on disk yet.
    sync(path.parent)
    if found == REVISION:
        return "opened"
    _upgrade(path)
    return f"migrated from schema {found} to {REVISION}"


def _upgrade(path: Path) -> None:
    try:
        migrate(path)
    except DatabaseError as error:
        raise StoreRefused(
            path, f"cannot be migrated ({error.orig})", "nothing was changed; mend that first"
        ) from error
    except CommandError as error:
        raise StoreRefused(
            path, f"cannot be migrated ({error})", "nothing was changed; use the dtm that wrote it"
        ) from error


def migrate(path: Path) -> None:
    """Run the migrations that the database at `path` has not seen, in one transaction."""
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
