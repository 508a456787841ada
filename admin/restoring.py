"""A backup put in place, and the log of the lost time moved out of the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dtm.storage.auditfiles import move_aside
from dtm.storage.backup import Restored, restore

from .clock import plain
from .errors import CommandRefused
from .gateway import held


@dataclass(frozen=True, slots=True)
class PutBack:
    """What stands in place now, since when, and where the log's files went."""

    store: Restored
    at: int
    logs: list[Path]


def put_back(backup: Path, db: Path, log: Path, *, now: int) -> PutBack:
    """Restore `backup` at `db`, and move the log at `log` aside with all its rotated files.

    Raises:
        StoreHeld: a server is at work there.
        StoreRefused: the backup is damaged, or something stands at `db`.
        CommandRefused: the store is in place, and the log cannot be moved.
    """
    with held(db):
        store = restore(backup, db, now=now)
        try:
            logs = move_aside(log, f"before-{plain(now).replace('-', '').replace(':', '')}")
        except OSError as error:
            raise CommandRefused(
                f"{db} is restored, but the log cannot be moved aside ({error.strerror}: {error.filename}); move it "
                "and its rotated files away before the server starts"
            ) from error
    return PutBack(store, now, logs)
