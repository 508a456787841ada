"""What goes wrong in a simulated world, and how often; all of it drawn from the seed.

Each world knows only some kinds of trouble: what happens rarely together is then seen alone as well.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from anyio import sleep

from dtm.storage.errors import StoreBusy, StoreFailed
from tests.simulation.connection import Connection
from tests.simulation.process import Process
from tests.simulation.scenario import Size
from tests.simulation.servers import Ambush

if TYPE_CHECKING:
    from tests.simulation.world import World


class Mischief:
    """The troubles of one world."""

    def __init__(self, world: World, chance: random.Random, size: Size) -> None:
        self._world = world
        self._chance = chance
        self._troubles: dict[str, Callable[[], None]] = {
            "cut": self._cut,
            "cut-at-commit": self._cut_at_commit,
            "stall": self._stall,
            "half-open": self._half_open,
            "cut-off": self._cut_off,
            "kill-server": self._kill_server,
            "kill-at-commit": self._kill_at_commit,
            "kill-at-append": self._kill_at_append,
            "fail-commit": self._fail_commit,
            "busy-store": self._busy_store,
            "drain": self._drain,
            "freeze-server": self._freeze_server,
            "kill-worker": self._kill_worker,
            "lose-worker": self._lose_worker,
            "freeze-worker": self._freeze_worker,
            "stop-worker": self._stop_worker,
            "kill-producer": self._kill_producer,
            "freeze-producer": self._freeze_producer,
            "full-table": self._full_table,
            "clock-jump": self._clock_jump,
            "reprocess": self._reprocess,
            "clear": self._clear,
        }
        count = chance.randint(*size.troubles)
        self.known = [name for name in self._troubles if chance.random() < count / len(self._troubles)]
        self._pace_s = chance.choice(size.paces_s)

    async def run(self) -> None:
        """Make trouble for ever."""
        while self.known:
            await sleep(self._chance.expovariate(1 / self._pace_s))
            name = self._chance.choice(self.known)
            self._world.note("trouble", name)
            self._troubles[name]()

    def _cut(self) -> None:
        for connection in self._some_connection():
            connection.cut()

    def _cut_at_commit(self) -> None:
        """Break the newest connections while something is on its way to the disk, perhaps their registrations."""

        def cut() -> None:
            for connection in list(self._world.network.connections)[-self._chance.randint(1, 3) :]:
                connection.cut()

        self._world.servers.ambushes += [Ambush("apply", "before", cut)] * self._chance.randint(1, 3)

    def _stall(self) -> None:
        for connection in self._some_connection():
            connection.hold(both=self._chance.random() < 0.5, there=self._chance.random() < 0.5)
            self._world.network.later(self._chance.random() * 6, connection.release)

    def _half_open(self) -> None:
        for connection in self._some_connection():
            connection.hold(both=self._chance.random() < 0.5, there=self._chance.random() < 0.5)

    def _some_connection(self) -> list[Connection]:
        connections = list(self._world.network.connections)
        return [self._chance.choice(connections)] if connections else []

    def _cut_off(self) -> None:
        for process in self._some(self._world.workers.present + self._world.producers.present):
            self._world.network.cut_off(process, self._chance.random() * 6)

    def _kill_server(self) -> None:
        self._draw_downtime()
        self._world.servers.kill()

    def _kill_at_commit(self) -> None:
        self._draw_downtime()
        phase = self._chance.choice(("before", "after"))
        self._world.servers.ambushes.append(Ambush("apply", phase, self._world.servers.kill))

    def _kill_at_append(self) -> None:
        servers = self._world.servers
        self._draw_downtime()

        def mark() -> None:
            log = servers.folder / "dead.log"
            size = log.stat().st_size if log.exists() else 0
            servers.ambushes.append(Ambush("catch_up", "after", lambda: kill(size)))

        def kill(size: int) -> None:
            servers.kill()
            servers.tear_log(size)

        servers.ambushes.append(Ambush("catch_up", "before", mark))

    def _fail_commit(self) -> None:
        servers = self._world.servers
        self._draw_downtime()

        def fail() -> None:
            servers.expects_failure = True
            raise StoreFailed("the disk failed")

        servers.ambushes.append(Ambush("apply", self._chance.choice(("before", "after")), fail))

    def _busy_store(self) -> None:
        def be_busy() -> None:
            raise StoreBusy("another program writes")

        self._world.servers.ambushes += [Ambush("apply", "before", be_busy)] * self._chance.randint(1, 10)

    def _drain(self) -> None:
        self._draw_downtime()
        self._world.servers.drain()
        stop = self._world.servers.stop
        if self._chance.random() < 0.3:
            self._world.network.later(self._chance.random(), stop.now.set)

    def _freeze_server(self) -> None:
        process = self._world.servers.process
        if process is not None:
            self._freeze(process)

    def _kill_worker(self) -> None:
        for process in self._some(self._world.workers.present):
            process.kill()

    def _lose_worker(self) -> None:
        for process in self._some(self._world.workers.present):
            self._world.network.lose(process)

    def _freeze_worker(self) -> None:
        for process in self._some(self._world.workers.present):
            self._freeze(process)

    def _stop_worker(self) -> None:
        places = list(self._world.workers.processes)
        if places:
            self._world.workers.stop(self._chance.choice(places), now=self._chance.random() < 0.3)

    def _kill_producer(self) -> None:
        for process in self._some(self._world.producers.present):
            process.kill()

    def _freeze_producer(self) -> None:
        for process in self._some(self._world.producers.present):
            self._freeze(process)

    def _full_table(self) -> None:
        self._world.network.exhaust(self._chance.randint(1, 4))

    def _clock_jump(self) -> None:
        # Far while a server runs, for it must not matter; by little across a start, for then it rightly does.
        self._world.jump(self._chance.choice((-1, 1)) * self._chance.choice((3.0, 315_000_000.0)))

    def _reprocess(self) -> None:
        self._world.command("deadletter.reprocess", self._chance.randint(1, 5))

    def _clear(self) -> None:
        self._world.command("deadletter.clear", self._chance.randint(1, 2))

    def _freeze(self, process: Process) -> None:
        if not process.is_frozen:
            process.freeze()
            # Now and then longer than any timeout.
            self._world.network.later(self._chance.uniform(0.1, 8), process.thaw)

    def _some(self, processes: list[Process]) -> list[Process]:
        return [self._chance.choice(processes)] if processes else []

    def _draw_downtime(self) -> None:
        self._world.servers.downtime_s = self._chance.choice((0.0, 0.05, 0.3, 2.0, 5.0)) * self._chance.random()
