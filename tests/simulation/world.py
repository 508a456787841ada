"""One simulated world: a server, workers, producers, an operator and their troubles, all drawn from one seed."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import structlog
from anyio import create_task_group, move_on_after, sleep
from anyio.abc import TaskGroup

from dtm.storage.migrate import prepare
from tests.simulation.blame import Blame
from tests.simulation.journal import Journal, Trace
from tests.simulation.loop import SimulatedLoop, run
from tests.simulation.mischief import Mischief
from tests.simulation.network import Network
from tests.simulation.oracle import judge
from tests.simulation.producers import Operator, Producers
from tests.simulation.scenario import Scenario
from tests.simulation.servers import Servers
from tests.simulation.workers import Workers

PATIENCE_S = 240.0
"""In which everything that was taken must have ended once the troubles are over: several of the longest timeouts."""

LAST_S = 60.0
"""In which everybody must have left in good order."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a world."""

    seed: int
    digest: str
    violations: list[str]
    troubles: list[str]
    tasks: int
    took_s: float


class World:
    """Everything there is."""

    def __init__(self, loop: SimulatedLoop, seed: int, folder: Path, on_line: Callable[[str], object] | None) -> None:
        self._scenario = Scenario.draw(random.Random(f"scenario {seed}"))
        self._loop = loop
        self._seed = seed
        self.trace = Trace(loop.time, on_line)
        self.note = self.trace.note
        self.journal = Journal(self.trace, loop.time)
        self.network = Network(loop, random.Random(f"network {seed}"), latency_s=self._scenario.latency_s)
        self.network.on_event = self.note
        self.network.on_connection = self.journal.watch
        (folder / "tasks.db").write_bytes(_empty_store())
        self.servers = Servers(loop, self.network, self._scenario.settings, folder=folder, seed=seed, note=self.note)
        self.workers = Workers(loop, self.network, seed=seed, note=self.note)
        self.producers = Producers(loop, self.network, seed=seed, note=self.note)
        self.blame = Blame(self.journal, self.servers, loop.time)
        self._operator = Operator(loop, self.network, self.servers, note=self.note)
        self._mischief = Mischief(self, random.Random(f"mischief {seed}"), self._scenario.size)
        self._group: TaskGroup | None = None

    async def live(self) -> Outcome:
        """Let it go wrong for a while, then let it heal, and look at what is left."""
        async with create_task_group() as group:
            self._group = group
            group.start_soon(self.servers.run)
            self._employ(group)
            for at_s in self._scenario.cancels_at_s:
                group.start_soon(self._cancel, at_s)
            try:
                with move_on_after(self._scenario.troubled_s):
                    await self._mischief.run()
            finally:
                # Also if a part has failed: whoever is stopped could not be ended.
                self._heal()
            if await self._settled():
                await self._leave(group)
            group.cancel_scope.cancel()
        self._look_for_leftovers()
        # The drain at the end is the only one that takes nothing back.
        judge(
            self.journal,
            self.servers.folder,
            has_drained=self.servers.drains > 1,
            keep_completed_s=self._scenario.settings.keep_completed_s,
            has_jumped="clock-jump" in self._mischief.known,
        )
        return Outcome(
            self._seed,
            self.trace.digest,
            self.journal.violations,
            self._mischief.known,
            self._scenario.tasks,
            self._loop.time(),
        )

    def jump(self, seconds: float) -> None:
        """Set the server machine's clock."""
        self.servers.wall_offset_s += seconds

    def command(self, name: str, limit: int) -> None:
        """Let the operator give a command."""
        assert self._group is not None
        self._group.start_soon(self._operator.command, name, limit)

    def logged(self, event: structlog.typing.EventDict) -> None:
        """Hear what any process logs."""
        self.note("log", event["event"], event.get("client", ""), event.get("task", ""), event.get("reason", ""))
        self.blame.hear(event)

    async def _cancel(self, at_s: float) -> None:
        await sleep(at_s)
        self.command("tasks.cancel", 2)

    def _employ(self, group: TaskGroup) -> None:
        for staff in self._scenario.staff:
            group.start_soon(self.workers.employ, staff)
        for name, wishes in self._scenario.wishes.items():
            group.start_soon(self.producers.employ, name, wishes)

    def _heal(self) -> None:
        self.note("heal")
        self.servers.ambushes.clear()
        self.servers.downtime_s = 0.0
        self.network.heal()
        processes = [*self.workers.present, *self.producers.present, self.servers.process]
        for process in processes:
            if process is not None:
                process.thaw()
        self.servers.wall_offset_s = 0.0
        if self.servers.wall_offset_at_start_s:
            self.servers.drain()

    async def _settled(self) -> bool:
        """Wait until everything has ended."""
        with move_on_after(PATIENCE_S):
            await _until(self._has_settled, every_s=1.0)
            return True
        unheard = [wish.ids for wishes in self.producers.wishes.values() for wish in wishes if not wish.is_done]
        self.journal.blame(f"{PATIENCE_S:g} s after all trouble not everything has ended:", self._unended(), unheard)
        return False

    def _has_settled(self) -> bool:
        if self._operator.at_work:
            return False
        wishes = [wish for wishes in self.producers.wishes.values() for wish in wishes]
        return self.servers.is_up and all(wish.is_done for wish in wishes) and not self._unended()

    def _unended(self) -> list[tuple[int, str]]:
        with closing(sqlite3.connect(f"file:{self.servers.folder}/tasks.db?mode=ro", uri=True)) as connection:
            return connection.execute("SELECT id, state FROM tasks WHERE finished_at IS NULL").fetchall()

    async def _leave(self, group: TaskGroup) -> None:
        self.note("leave")
        self.workers.is_over = self.servers.is_over = True
        with move_on_after(LAST_S):
            for place in list(self.workers.processes):
                self.workers.stop(place, now=False)
            await _until(lambda: not self.workers.processes, every_s=0.1)
            self.servers.drain()
            await _until(lambda: not self.servers.is_running, every_s=0.1)
            return
        self.journal.blame("not everybody left within", LAST_S, "s:", self.workers.present, self.servers.process)

    def _look_for_leftovers(self) -> None:
        for connection in self.network.connections:
            self.journal.blame("connection", connection.number, "was not closed")
        for complaint in self._loop.complaints:
            self.journal.blame("the loop complains:", complaint)


async def _until(condition: Callable[[], bool], *, every_s: float) -> None:
    while not condition():  # noqa: ASYNC110  looking costs nothing in made-up time
        await sleep(every_s)


@cache
def _empty_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.db"
        prepare(path)
        with closing(sqlite3.connect(path)) as connection, connection:
            # A store's name is drawn when it is made; here it is always the same.
            connection.execute("UPDATE meta SET store_id = ?", ("0" * 32,))
        return path.read_bytes()


@contextmanager
def listening_to_logs(hear: Callable[[structlog.typing.EventDict], None]) -> Iterator[None]:
    """Let `hear` have everything that is logged."""

    def processor(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        hear(event)
        raise structlog.DropEvent

    structlog.configure(processors=[processor], wrapper_class=structlog.make_filtering_bound_logger(20))
    try:
        yield
    finally:
        structlog.reset_defaults()


def play(seed: int, folder: Path, *, on_line: Callable[[str], object] | None = None) -> Outcome:
    """Run the world of `seed` in an empty folder, from its beginning to its end.

    The same folder for all seeds is quicker: what was compiled for one serves the next.
    """

    async def main(loop: SimulatedLoop) -> Outcome:
        world = World(loop, seed, folder, on_line)
        with listening_to_logs(world.logged):
            return await world.live()

    try:
        return run(main)
    finally:
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
