"""What the disk itself takes: an fdatasync of one page that was overwritten."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import median

_PAGE = b"\0" * 4096
_PAGES = 64
_TIMES = 200
_REST_S = 0.001

# Not every system knows it.
_sync = getattr(os, "fdatasync", os.fsync)


def fdatasync_ms(folder: Path, *, rested: bool) -> float:
    """Give the median of one after the other, or of one after a millisecond in which the machine may fall asleep.

    The second is what a commit on an idle server meets.
    """
    path = folder / "fdatasync"
    path.write_bytes(_PAGE * _PAGES)
    try:
        with path.open("r+b", buffering=0) as file:
            os.fsync(file.fileno())
            return 1_000 * median(_one(file.fileno(), number, rested=rested) for number in range(_TIMES))
    finally:
        path.unlink()


def _one(fd: int, number: int, *, rested: bool) -> float:
    if rested:
        time.sleep(_REST_S)
    os.lseek(fd, number % _PAGES * len(_PAGE), os.SEEK_SET)
    os.write(fd, _PAGE)
    began_s = time.perf_counter()
    _sync(fd)
    return time.perf_counter() - began_s
