"""What the folder remembers of its store, so that an older one in its place is noticed.

Kept beside the database, never in it: a backup that is put back brings its own memory along.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from dtm.storage.disk import sync
from dtm.storage.errors import StoreRefused


class Witness(Struct, frozen=True):
    """A store, and how often it has been opened for writing."""

    store: str
    epoch: int


def remembered(path: Path) -> Witness | None:
    """Give what was last noted of the store at `path`."""
    place = _place(path)
    if place.is_symlink():
        return None
    try:
        return msgspec.json.decode(place.read_bytes(), type=Witness)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def require_not_older(path: Path, found: Witness) -> None:
    """Make sure that the store at `path` is not an earlier state of the one that was last opened there.

    Raises:
        StoreRefused: it is.
    """
    known = remembered(path)
    if known is not None and known.store == found.store and known.epoch > found.epoch:
        raise StoreRefused(
            path,
            f"is older than what last ran here (opened {found.epoch} times, and it was {known.epoch}), so it is a copy "
            "that was put back",
            f"move it to another name, and put it in place with: dtm-admin restore NAME --db {path}",
        )


def note(path: Path, witness: Witness) -> None:
    """Remember that the store at `path` has been opened; call it once that is committed."""
    place = _place(path)
    draft = place.with_name(place.name + ".new")
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(msgspec.json.encode(witness))
        sync(draft)
        draft.replace(place)
        sync(place.parent)
    except OSError:
        # On a disk that is full the server still has results to take. An earlier note raises no false alarm.
        pass


def _place(path: Path) -> Path:
    database = Path(os.path.realpath(path))
    return database.with_name(database.name + ".epoch")
