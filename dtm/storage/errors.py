"""What can be wrong with a store, said so that a person knows what to do."""

from __future__ import annotations

from pathlib import Path

from dtm.core.errors import DtmError


class StoreRefused(DtmError):
    """The file cannot serve as a store; it was not touched."""

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(f"{path}: {reason}; {remedy}")
        self.path = path


class StoreMissing(StoreRefused):
    """There is no such file."""


class StoreHeld(DtmError):
    """Another process works on the store."""


class StoreBusy(DtmError):
    """Somebody else's transaction blocks the store; nothing has happened, and trying again may help."""


class NoRoom(DtmError):
    """The disk is too small for what was asked; nothing has happened."""


class StoreGone(DtmError):
    """Somebody deleted or replaced the files of the store while it was open."""


class StoreFailed(DtmError):
    """The disk or the file failed under a transaction; whether it is saved is unknown until the next opening."""
