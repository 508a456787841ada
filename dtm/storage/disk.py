"""What the disk has to be told besides writing: to keep a file, or a folder's entries."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until the file, or the folder's list of names, is on disk.

    Raises:
        OSError: it is not.
    """
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot sync a folder, and its rename does not ask for it
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
