"""The simulated network: who listens, who is connected, and who is cut off.

Knows no messages. Within one direction of a connection bytes keep their order, as TCP has it; between connections
nothing is in order.
"""

from __future__ import annotations

import errno
import os
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from anyio import Event
from anyio.abc import SocketAttribute
from anyio.lowlevel import checkpoint

from tests.simulation.connection import Connection, Stream
from tests.simulation.loop import SimulatedLoop
from tests.simulation.pipe import Weather
from tests.simulation.process import Process


class Network:
    """Every connection there is, and who listens."""

    def __init__(self, loop: SimulatedLoop, chance: random.Random, *, latency_s: float) -> None:
        self.connections: dict[Connection, None] = {}
        self.on_event: Callable[..., None] = lambda *_: None
        self.on_connection: Callable[[Connection], None] = lambda _: None
        self._weather = Weather(loop, chance, latency_s=latency_s)
        self._listeners: dict[int, Listener] = {}
        self._last_port = 40_000
        self._unreachable: dict[Process, None] = {}

    def listen(self, process: Process, port: int) -> Listener:
        """Open a port."""
        listener = self._listeners[port] = Listener(self, process, port)
        return listener

    def close(self, listener: Listener) -> None:
        """Nobody listens at the port any more."""
        if self._listeners.get(listener.port) is listener:
            del self._listeners[listener.port]

    async def connect(self, process: Process, port: int) -> Stream:
        """Connect `process`.

        Raises:
            OSError: nobody listens.
        """
        await self._pause(self._weather.latency_s)
        while process in self._unreachable:
            await self._pause(1.0)
        listener = self._listeners.get(port)
        if listener is None:
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        self._last_port += 1
        connection = Connection(self._weather, process, listener.process, self._last_port, self._forget)
        self.connections[connection] = None
        self.on_event("connect", process.name, self._last_port)
        self.on_connection(connection)
        listener.arrive(connection.server)
        return connection.client

    def cut_off(self, process: Process, seconds: float) -> None:
        """Let nothing of `process` through for a while, new connections neither."""
        self._unreachable[process] = None
        for connection in list(self.connections):
            if connection.client.process is process:
                connection.hold(both=True)
                self.later(seconds, connection.release)
        self.later(seconds, lambda: self._unreachable.pop(process, None))

    def exhaust(self, times: int) -> None:
        """Let accepting fail a few times, as it does when the table of descriptors is full."""
        for listener in self._listeners.values():
            listener.failures += times

    def lose(self, process: Process) -> None:
        """Let the machine of `process` lose its power."""
        for connection in list(self.connections):
            if connection.client.process is process:
                connection.lose()
        process.kill()

    def heal(self) -> None:
        """Let everything through again."""
        self._unreachable.clear()
        for connection in list(self.connections):
            connection.release()

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something after a while, in nobody's name."""
        self._weather.later(seconds, act)

    def _forget(self, connection: Connection) -> None:
        self.connections.pop(connection, None)

    async def _pause(self, mean_s: float) -> None:
        done = Event()
        self._weather.later(self._weather.delay_s(mean_s), done.set)
        await done.wait()


class Listener:
    """A port that is listened at."""

    def __init__(self, network: Network, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self.failures = 0
        self._network = network
        self._waiting: deque[Stream] = deque()
        self._news = Event()
        process.endpoints[self] = None

    def extra(self, attribute: Any, /) -> Any:
        """Give the port."""
        return {SocketAttribute.local_port: self.port}[attribute]

    async def accept(self) -> Stream:
        """Wait for the next connection."""
        await checkpoint()
        while not self._waiting:
            await self._news.wait()
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self._waiting.popleft()

    def arrive(self, stream: Stream) -> None:
        """Take in a connection, as the system does, whether the process accepts it or not."""
        self._waiting.append(stream)
        self._news.set()
        self._news = Event()

    async def aclose(self) -> None:
        """Accept no more."""
        self.die()
        await checkpoint()

    def die(self) -> None:
        """Close the port; who was not accepted is refused."""
        self._network.close(self)
        self.process.endpoints.pop(self, None)
        while self._waiting:
            self._waiting.popleft().die()
