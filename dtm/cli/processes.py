"""Several processes of one command: started, started again when they die, and ended together."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from typing import Any

import anyio
import structlog
from anyio import Event, create_task_group, move_on_after
from anyio.abc import Process

from dtm.core.backoff import Backoff

BACKOFF = Backoff(0.5, 30.0)

log = structlog.get_logger()


class Supervisor:
    """Keeps processes running until it is told to stop.

    A process is told to end by the end of its standard input, which comes by itself if this one dies. Ctrl-C reaches
    this one only: it decides what becomes of the others.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._running: set[Process] = set()
        self._is_stopping = False

    async def run(self, commands: Sequence[Sequence[str]], stop: Event, now: Event) -> int:
        """Run all `commands` until `stop`, then wait for their orderly end; after `now` kill what is left.

        Returns:
            How many did not end well.
        """
        codes: list[int] = []
        async with create_task_group() as group:
            group.start_soon(self._end_on, stop, now)
            async with create_task_group() as processes:
                for command in commands:
                    processes.start_soon(self._keep_running, command, codes, stop)
            group.cancel_scope.cancel()
        return sum(code != 0 for code in codes)

    async def _keep_running(self, command: Sequence[str], codes: list[int], stop: Event) -> None:
        failures = 0
        while True:
            code = await self._run_once(command)
            if stop.is_set() or code == 0:
                codes.append(code)
                return
            failures += 1
            pause_s = BACKOFF.delay_s(failures, self._chance.random())
            log.error("process.died", code=code, restart_in_s=round(pause_s, 2))
            with move_on_after(pause_s):
                await stop.wait()
                codes.append(code)
                return

    async def _run_once(self, command: Sequence[str]) -> int:
        process = await anyio.open_process(command, stdin=subprocess.PIPE, stdout=None, stderr=None, **OWN_GROUP)
        self._running.add(process)
        try:
            if self._is_stopping:
                await _end_input(process)
            return await process.wait()
        finally:
            self._running.discard(process)

    async def _end_on(self, stop: Event, now: Event) -> None:
        await stop.wait()
        self._is_stopping = True
        for process in list(self._running):
            await _end_input(process)
        await now.wait()
        for process in list(self._running):
            process.kill()


async def _end_input(process: Process) -> None:
    if process.stdin is not None:
        await process.stdin.aclose()


OWN_GROUP: dict[str, Any] = (
    {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    if os.name == "nt"
    else {"start_new_session": True}
)
"""What keeps the Ctrl-C of a terminal from a process."""
