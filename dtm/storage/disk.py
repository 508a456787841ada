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
    # Elsewhere a file that may only be read can be synced all the same.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
