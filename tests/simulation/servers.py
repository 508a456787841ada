"""The simulated server machine: `serve` itself, started again and again on what its last end has left on the disk."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from anyio import CancelScope, CapacityLimiter, Event, sleep, sleep_forever
from anyio.lowlevel import checkpoint_if_cancelled
from msgspec import Struct
from msgspec.structs import replace

from dtm.server.app import StopRequest, serve
from dtm.server.clock import Clock
from dtm.server.listener import Listener
from dtm.server.machine import Machine
from dtm.server.settings import Settings
from dtm.storage.errors import StoreFailed
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Network
from tests.simulation.process import Process

STARTED_AT_NS = 1_800_000_000 * 10**9
PORT = 12345
MOST_OFF_S = 3.0
"""By how much a machine's clock may be wrong when its server starts: what is scheduled then waits so much longer."""

_FILES = ("tasks.db", "tasks.db-wal", "dead.log")


class Ambush(Struct, frozen=True):
    """What happens at the next run of `work` in a thread: before it or after."""

    work: str
    phase: str
    strike: Callable[[], None]


class Threads:
    """Stands for the server's threads: the same work after a drawn delay, between two steps of the loop."""

    def __init__(self, process: Process, chance: random.Random, ambushes: list[Ambush], *, delay_s: float) -> None:
        self._process = process
        self._chance = chance
        self._ambushes = ambushes
        self._delay_s = delay_s

    async def run(self, work: Callable[..., Any], *arguments: Any, limiter: CapacityLimiter | None = None) -> Any:
        """Do `work`, as a thread would."""
        async with limiter or nullcontext():
            with CancelScope(shield=True):
                await sleep(self._chance.random() * self._delay_s)
                self._spring(work, "before")
                result = None if self._process.is_dead else work(*arguments)
                self._spring(work, "after")
                await sleep(self._chance.random() * self._delay_s)
        await checkpoint_if_cancelled()
        if self._process.is_dead:
            await sleep_forever()
        return result

    def _spring(self, work: Callable[..., Any], phase: str) -> None:
        for ambush in self._ambushes:
            if (ambush.work, ambush.phase) == (work.__name__, phase) and not self._process.is_dead:
                self._ambushes.remove(ambush)
                ambush.strike()
                return


class Servers:
    """One server after the other."""

    def __init__(
        self, loop: SimulatedLoop, network: Network, settings: Settings, *, folder: Path, seed: int, note: Any
    ) -> None:
        self.ambushes: list[Ambush] = []
        self.process: Process | None = None
        self.stop = StopRequest(Event(), Event())
        self.wall_offset_s = 0.0
        self.started_s = 0.0
        self.downtime_s = 0.0
        self.folder = folder
        self.is_over = False
        self._image = folder / "crashed"
        self.expects_failure = False
        self.drains = 0
        self.wall_offset_at_start_s = 0.0
        self._loop = loop
        self._network = network
        self._settings = settings
        self._chance = random.Random(f"servers {seed}")
        self._note = note
        self._starts = 0

    @property
    def settings(self) -> Settings:
        """The settings, with the folder of the moment."""
        return replace(self._settings, db=self.folder / "tasks.db", dead_letter_log=self.folder / "dead.log")

    async def run(self) -> None:
        """Start servers until it is over."""
        while not self.is_over:
            await self._run_one()
            if not self.is_over:
                await sleep(self.downtime_s)

    @property
    def is_running(self) -> bool:
        """Whether there is a server process."""
        return self.process is not None and not self.process.is_dead

    @property
    def is_up(self) -> bool:
        """Whether a server runs that has not been told to end."""
        return self.is_running and not self.stop.drain.is_set()

    def drain(self) -> None:
        """Tell the server to end in good order."""
        self.drains += 1
        self.stop.drain.set()

    def kill(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()

    async def _run_one(self) -> None:
        self._starts += 1
        process = self.process = Process(self._loop, f"server-{self._starts}")
        process.on_death.append(self._save)
        self.stop = StopRequest(Event(), Event())
        self.wall_offset_s = max(-MOST_OFF_S, min(MOST_OFF_S, self.wall_offset_s))
        self.started_s, self.wall_offset_at_start_s = self._loop.time(), self.wall_offset_s
        self._note("server.start", self._starts)
        try:
            await process.run(serve, self.settings, self.stop, self._machine(process))
        except* StoreFailed:
            if not self.expects_failure:
                raise
            self.expects_failure = False
        process.on_death.clear()
        if process.is_dead:
            self._restore()
        process.kill()  # whatever it left open the system closes
        self._note("server.end", self._starts)

    def _machine(self, process: Process) -> Machine:
        clock = Clock.start(
            lambda: STARTED_AT_NS + int((self._loop.time() + self.wall_offset_s) * 1e9), self._loop.time
        )
        threads = Threads(process, self._chance, self.ambushes, delay_s=0.01)

        # Work of any kind goes in, and no annotation of this method would say so in the words of that argument.
        in_thread: Any = threads.run

        async def listen(_: str, port: int) -> list[Listener]:
            return [self._network.listen(process, port)]

        return Machine(clock, random.Random(self._chance.random()), in_thread, lambda: nullcontext(in_thread), listen)

    def _save(self) -> None:
        """Put aside what a crash leaves on the disk; what the dead server's clean-up does to its files is not it."""
        self._image.mkdir()
        for name in _FILES:
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, self._image / name)

    def _restore(self) -> None:
        for name in (*_FILES, "tasks.db-shm"):
            (self.folder / name).unlink(missing_ok=True)
            if (self._image / name).exists():
                (self._image / name).rename(self.folder / name)
        self._image.rmdir()

    def tear_log(self, from_byte: int) -> None:
        """Let a crash during the last append leave the log with any part of it."""
        log = self._image / "dead.log"
        size = log.stat().st_size
        with log.open("r+b") as file:
            file.truncate(self._chance.randint(from_byte, size))
