"""A cluster at work, and everything that can be done to it."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable

import anyio
from anyio import to_thread

from tests.acceptance.cluster import Cluster, Process, end, kill
from tests.faults.proxy import BOTH, DOWN, UP, Proxy

TIMEOUT_S = 1.5
SERVER_OPTIONS = (
    *("--heartbeat-interval", "200ms", "--heartbeat-timeout", "1500ms", "--heartbeat-check", "100ms"),
    *("--reconnect-grace", "300ms", "--retry-backoff", "10ms..50ms", "--shutdown-timeout", "1s"),
)


class Mixture:
    """Faults of all kinds, one at a time; chance says which, and how long each lasts."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster = cluster
        self._chance = chance
        self._clients: list[Process] = []
        self._started = 0
        self._server = cluster.start_server(*SERVER_OPTIONS)
        self.direct = cluster.address
        self._faults: dict[Callable[[Proxy], Awaitable[None]], int] = {
            self._kill_server: 6,
            self._kill_server_as_it_starts: 2,
            self._terminate_server: 2,
            self._freeze_server: 2,
            self._kill_client: 4,
            self._freeze_client: 2,
            self._terminate_client: 2,
            self._cut_line: 6,
            self._hold_line: 3,
            self._reprocess: 2,
            self._clear: 1,
        }

    async def start_client(self) -> None:
        """Start a real client, a third of whose runs fail."""
        self._started += 1
        words = ("--concurrency", "2", "--failure-rate", "0.3", "--seed", str(self._started))
        address = self._chance.choice((self.direct, self._cluster.address))
        process, _ = await to_thread.run_sync(
            lambda: self._cluster.start("dtm-client", "--server", address, "--name", f"real-{self._started}", *words)
        )
        self._clients.append(process)

    async def happen(self, proxy: Proxy) -> str:
        """Let one fault happen, wait until it is over, and give its name."""
        await anyio.sleep(self._chance.random() * 0.5)
        (fault,) = self._chance.choices(list(self._faults), list(self._faults.values()))
        await fault(proxy)
        return fault.__name__.strip("_").replace("_", " ")

    async def end(self) -> int:
        """End the server in good order."""
        return await to_thread.run_sync(end, self._server)

    async def _kill_server(self, _: Proxy) -> None:
        kill(self._server)
        await self._start_server()

    async def _kill_server_as_it_starts(self, _: Proxy) -> None:
        for _again in range(3):
            kill(self._server)
            self._server = self._cluster.restart_unseen(*SERVER_OPTIONS)
            await anyio.sleep(self._chance.random() * 0.05)
        await self._kill_server(_)

    async def _terminate_server(self, _: Proxy) -> None:
        await self.end()
        await self._start_server()

    async def _freeze_server(self, _: Proxy) -> None:
        await self._freeze(self._server)

    async def _kill_client(self, _: Proxy) -> None:
        kill(self._take_client())
        await self.start_client()

    async def _freeze_client(self, _: Proxy) -> None:
        await self._freeze(self._chance.choice(self._clients))

    async def _terminate_client(self, _: Proxy) -> None:
        client = self._take_client()
        assert await to_thread.run_sync(end, client) == 0
        await self.start_client()

    async def _cut_line(self, proxy: Proxy) -> None:
        for _ in range(self._chance.randint(1, 5)):
            proxy.cut()
            await anyio.sleep(self._chance.random() * 0.2)

    async def _hold_line(self, proxy: Proxy) -> None:
        proxy.hold(*self._chance.choice((BOTH, (UP,), (DOWN,))))
        await anyio.sleep(self._chance.random() * 2 * TIMEOUT_S)
        proxy.let_go()

    async def _reprocess(self, _: Proxy) -> None:
        await self._settle("reprocess")

    async def _clear(self, _: Proxy) -> None:
        await self._settle("clear")

    async def _settle(self, command: str) -> None:
        words = ("dtm-admin", "deadletter", command, "--all", "--yes")
        await to_thread.run_sync(lambda: self._cluster.finish(*words))

    async def _freeze(self, process: Process) -> None:
        process.send_signal(signal.SIGSTOP)
        await anyio.sleep(self._chance.random() * 2 * TIMEOUT_S)
        process.send_signal(signal.SIGCONT)

    def _take_client(self) -> Process:
        return self._clients.pop(self._chance.randrange(len(self._clients)))

    async def _start_server(self) -> None:
        port = self.direct.rpartition(":")[2]
        address = self._cluster.address
        self._server = await to_thread.run_sync(lambda: self._cluster.start_server(*SERVER_OPTIONS, port=port))
        self._cluster.address = address
