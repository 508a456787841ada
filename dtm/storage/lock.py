"""One process a store: the lock beside the database, and who holds it.

The lock is a file of its own, as locks on the database file are SQLite's.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout
from msgspec import Struct

from dtm.storage.errors import StoreHeld, StoreRefused


class Holder(Struct, frozen=True):
    """The live server of a store, for commands on the same machine: its address, and the token of their right.

    `certificate` is the SHA-256 of the server's own in hexadecimal digits, empty if it speaks no TLS.
    """

    pid: int
    host: str
    port: int
    secret: str
    certificate: str = ""


class StoreLock:
    """The exclusive right to write a store, given back at the latest when the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # By whatever link one comes to the database, there is one lock, and it lies beside the file itself.
        database = Path(os.path.realpath(path))  # not resolve(), which fails where links go round in a circle
        self._holder_path = database.with_name(database.name + ".server")
        self.file = database.with_name(database.name + ".lock")
        self._lock = FileLock(self.file, timeout=0, mode=0o600)

    def acquire(self, *, wait_s: float = 0.0) -> None:
        """Take the lock, at once or within `wait_s` seconds.

        Raises:
            StoreHeld: another process has it; the message names that process if it said who it is.
            StoreRefused: the lock file cannot be made.
        """
        if not self._path.parent.is_dir():
            raise StoreRefused(self._path, "its folder does not exist", "make the folder, or name another path")
        for path in (self.file, self._holder_path):
            if path.is_symlink():
                # Where it leads is somebody else's to say; there the server would write, or tell its secret.
                raise StoreRefused(path, "is a symbolic link", "remove it; dtm makes a file of its own there")
        try:
            self._lock.acquire(timeout=wait_s)
        except Timeout:
            raise StoreHeld(
                f"{self._path} is in use by {self._describe_holder()}; only one process may write it"
            ) from None
        except OSError as error:
            raise StoreRefused(
                self._path,
                f"cannot be locked ({error.strerror}: {error.filename})",
                "check the folder and its rights",
            ) from error

    def announce(self, holder: Holder) -> None:
        """Tell commands on this machine how to reach the process that has the lock."""
        draft = self._holder_path.with_name(self._holder_path.name + ".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(holder))
        draft.replace(self._holder_path)

    def holder(self) -> Holder | None:
        """Say who announced itself last; it may have died since."""
        if self._holder_path.is_symlink():
            return None
        try:
            return msgspec.json.decode(self._holder_path.read_bytes(), type=Holder)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def release(self) -> None:
        """Give the lock back."""
        self._holder_path.unlink(missing_ok=True)
        self._lock.release()

    def _describe_holder(self) -> str:
        holder = self.holder()
        return (
            "another process" if holder is None else f"the server with pid {holder.pid} at {holder.host}:{holder.port}"
        )
