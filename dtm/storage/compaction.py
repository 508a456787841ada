"""The free pages of the file, given back to the disk: SQLite's VACUUM, with a look at the room that it needs.

VACUUM writes the whole store twice, into a temporary file and into the write-ahead log, and is one transaction: a
crash on the way leaves the store as it was.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path

from msgspec import Struct

from dtm.storage.errors import NoRoom, StoreBusy, StoreFailed
from dtm.storage.view import Space

# In this order SQLite looks for a place for its temporary files (https://sqlite.org/tempfiles.html).
_TEMPORARY_VARIABLES = ("SQLITE_TMPDIR", "TMPDIR")
_TEMPORARY_FOLDERS = ("/var/tmp", "/usr/tmp", "/tmp", ".")

_PAGES = ("page_count", "freelist_count", "page_size")


class Compacted(Struct, frozen=True):
    """What the database took before and takes now."""

    before: Space
    after: Space


def compact(connection: sqlite3.Connection, *, spare: int) -> Compacted:
    """Rewrite the store on its writer's connection without its free pages.

    Args:
        connection: the writer's, with no transaction open.
        spare: bytes that must stay free on the database's disk meanwhile.

    Raises:
        NoRoom: a disk is too small for that; nothing has changed.
        StoreBusy: another program holds the write lock; nothing has changed.
        StoreFailed: the disk failed.
    """
    before = _space(connection)
    _require_room(_folder(connection), before.live, spare)
    try:
        connection.execute("VACUUM")
        # Into the file with it, whose end is cut off then. Where a long look forbids that, a later commit does it.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.OperationalError as error:
        raise _meaning(error) from error
    except sqlite3.DatabaseError as error:
        raise StoreFailed(f"the database failed while it was compacted ({error})") from error
    return Compacted(before, _space(connection))


def _space(connection: sqlite3.Connection) -> Space:
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _PAGES)
    return Space(pages * size, free * size)


def _meaning(error: sqlite3.OperationalError) -> Exception:
    match error.sqlite_errorcode & 0xFF:
        case sqlite3.SQLITE_FULL:
            return NoRoom(f"the disk became full ({error}); nothing has changed: make room and try again")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreBusy(f"another program holds the database's write lock ({error})")
    return StoreFailed(f"the database failed while it was compacted ({error})")


def _folder(connection: sqlite3.Connection) -> Path:
    files = {name: file for _, name, file in connection.execute("PRAGMA database_list")}
    return Path(files["main"]).parent


def _require_room(folder: Path, live: int, spare: int) -> None:
    wanted: Counter[Path] = Counter({folder: live + spare})
    temporary = _temporary_folder()
    # What lies on one disk adds up there.
    wanted[folder if temporary.stat().st_dev == folder.stat().st_dev else temporary] += live
    for place, bytes_ in wanted.items():
        free = shutil.disk_usage(place).free
        if free < bytes_:
            raise NoRoom(
                f"{place}: wanted {_mib(bytes_)} free to compact a store of {_mib(live)}, found {_mib(free)}; make "
                "room, or let SQLITE_TMPDIR name a folder on another disk for a half of it"
            )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _temporary_folder() -> Path:
    if os.name == "nt":
        return Path(tempfile.gettempdir())
    folders = [*filter(None, map(os.environ.get, _TEMPORARY_VARIABLES)), *_TEMPORARY_FOLDERS]
    usable = (Path(name) for name in folders if Path(name).is_dir() and os.access(name, os.W_OK | os.X_OK))
    return next(usable, Path())
