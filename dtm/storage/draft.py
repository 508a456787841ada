"""A database that is built under another name and takes its place whole, or not at all.

A crash on the way leaves no half store at the path.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from dtm.storage.disk import sync
from dtm.storage.errors import StoreRefused

COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, by the ends of the names."""


def put_in_place(path: Path, build: Callable[[Path], object]) -> None:
    """Let `build` fill an empty file of its owner's alone, and make it the database at `path`, on disk.

    Raises:
        StoreRefused: it cannot be built, or not be put there.
    """
    draft = path.with_name(path.name + ".new")
    try:
        _remove(draft)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with _removed_on_failure(draft):
            build(draft)
            if draft.with_name(draft.name + "-wal").exists():
                # Closing merges the log into the file, and says nothing when the disk is too full for that.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(draft)
        draft.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StoreRefused(
            path, f"cannot be created ({error.strerror})", "check that its folder exists, may be written and has room"
        ) from error
    except DatabaseError as error:
        raise StoreRefused(path, f"cannot be created ({error.orig})", "check the disk, and that it has room") from error


def require_no_remains(path: Path) -> None:
    """Make sure that no log of an earlier database would be taken for part of a new one at `path`.

    Raises:
        StoreRefused: one lies there.
    """
    for end in ("-wal", "-journal"):
        log = path.with_name(path.name + end)
        if log.exists() and log.stat().st_size:
            raise StoreRefused(
                log,
                f"is left of a database that is gone, and SQLite would write it into a new {path.name}",
                f"put its {path.name} back beside it, or move it away to begin anew",
            )


@contextmanager
def _removed_on_failure(draft: Path) -> Iterator[None]:
    """Leave no half database behind: it may fill the very disk that was too small for it."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            _remove(draft)
        raise


def _remove(draft: Path) -> None:
    for leftover in (draft, *(draft.with_name(draft.name + end) for end in COMPANIONS)):
        leftover.unlink(missing_ok=True)
