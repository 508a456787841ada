"""`--reload`: see that a file of Python below a folder has changed.

By looking twice a second at the time and size of each: any file system tells those, and development needs no more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
from anyio import to_thread

LOOK_EVERY_S = 0.5

# Folders in which nobody writes his tasks, and which hold files by thousands.
_PASSED_OVER = {"__pycache__", "node_modules", "site-packages"}

Snapshot = dict[str, tuple[int, int]]


async def changed(folder: Path, since: Snapshot) -> str:
    """Wait until a file below `folder` is not as it was `since`, and name it."""
    while True:
        await anyio.sleep(LOOK_EVERY_S)
        now = await to_thread.run_sync(snapshot, folder)
        if now != since:
            return min(path for path in now.keys() | since.keys() if now.get(path) != since.get(path))


def snapshot(folder: Path) -> Snapshot:
    """Look at each file."""
    found: Snapshot = {}
    for path in _files(folder):
        try:
            status = path.stat()
        except OSError:
            continue  # an editor is about to replace it
        found[str(path)] = (status.st_mtime_ns, status.st_size)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _PASSED_OVER and not name.startswith(".")]
        yield from (Path(parent, name) for name in names if name.endswith(".py"))
