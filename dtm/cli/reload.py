"""`--reload`: begin anew when a file of Python below a folder has changed.

Seen by looking twice a second at the time and size of each: any file system tells those, and development needs no more.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio import Event, create_task_group, to_thread

from dtm.cli.processes import OWN_GROUP, Supervisor

LOOK_EVERY_S = 0.5

# Folders in which nobody writes his tasks, and which hold files by thousands.
_PASSED_OVER = {"__pycache__", "node_modules", "site-packages"}

Snapshot = dict[str, tuple[int, int]]

log = structlog.get_logger()


async def run_reloading(
    folder: Path, check: Sequence[str], commands: Sequence[Sequence[str]], stop: Event, now: Event
) -> int:
    """Run `commands` until `stop`, and anew after each change below `folder`; after `now` kill what is left.

    What is broken is said once, by the command `check`, which ends well if the others can begin; then they wait for
    the next change.

    Returns:
        How many did not end well.
    """
    while True:
        outdated, before = Event(), snapshot(folder)
        async with create_task_group() as group:
            group.start_soon(_then, stop.wait, outdated.set)
            group.start_soon(_then, partial(changed, folder, before), outdated.set)
            failed = 0
            if await _is_sound(check, outdated):
                failed = await Supervisor(random.Random()).run(commands, outdated, now)
            elif not outdated.is_set():
                failed = len(commands)
                log.warning("reload.waiting", why="nothing runs until a file changes", folder=str(folder))
                await outdated.wait()
            group.cancel_scope.cancel()
        if stop.is_set():
            return failed
        log.info("reloading")


async def _is_sound(check: Sequence[str], outdated: Event) -> bool:
    """Say whether `check` ends well; one that is still at it once `outdated` is killed, and has not."""
    code = None
    async with create_task_group() as group:
        group.start_soon(_then, outdated.wait, group.cancel_scope.cancel)
        done = await anyio.run_process(
            check, stdin=subprocess.DEVNULL, stdout=None, stderr=None, check=False, **OWN_GROUP
        )
        code = done.returncode
        group.cancel_scope.cancel()
    return code == 0


async def _then(wait: Callable[[], Awaitable[object]], act: Callable[[], object]) -> None:
    await wait()
    act()


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
