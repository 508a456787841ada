"""What a server stands on: files that must stay those it opened, and room beside them.

Never opens the database's files: closing any descriptor of them would drop SQLite's locks.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import structlog

from dtm.core.sizes import format_size
from dtm.storage.errors import StoreGone

log = structlog.get_logger()


class Disk:
    """The folders and files of one server."""

    def __init__(self, db: Path, lock: Path, log_folder: Path, *, min_free: int) -> None:
        real = Path(os.path.realpath(db))
        beside = (real.with_name(real.name + ending) for ending in ("-wal", "-shm"))
        self._files = {path: _identity(path) for path in (db, *beside, lock)}
        self._db_folder, self._log_folder = real.parent, log_folder
        self._min_free = min_free
        self._low: frozenset[Path] = frozenset()

    @property
    def is_low(self) -> bool:
        """Whether the database's folder had, at the last look, less room than is to be left."""
        return self._db_folder in self._low

    @property
    def complaint(self) -> str:
        """Why no tasks are taken in."""
        return (
            f"less than {format_size(self._min_free)} are free beside the database; "
            "tasks are taken in again when there is more"
        )

    def look(self) -> None:
        """See how much room there is."""
        free = {folder: _free(folder) for folder in (self._db_folder, self._log_folder)}
        low = frozenset(folder for folder in free if free[folder] < self._min_free)
        for folder in sorted(low ^ self._low):
            level, event = (logging.WARNING, "disk.low") if folder in low else (logging.INFO, "disk.recovered")
            log.log(level, event, folder=str(folder), free=free[folder], wanted=self._min_free)
        self._low = low

    def require_same_files(self) -> None:
        """See that nobody has deleted or replaced the files that are open.

        Raises:
            StoreGone: somebody has; what is written goes where nobody will find it.
        """
        changed = [path for path, before in self._files.items() if _identity(path) != before]
        if changed:
            raise StoreGone(
                f"{', '.join(map(str, changed))}: {_fate(changed)} while the server worked on it; "
                "put the right file there (what was acknowledged is in the old one), then start again"
            )


def _fate(paths: Iterable[Path]) -> str:
    return "was replaced" if all(path.exists() for path in paths) else "was deleted"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0  # a folder that cannot be looked at takes nothing either
