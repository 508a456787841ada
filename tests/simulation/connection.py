"""A simulated connection: two streams, each the other's peer, that stall, break and end as sockets do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from tests.simulation.pipe import Pipe, Weather
from tests.simulation.process import Process


class Connection:
    """Two streams, each the other's peer."""

    def __init__(
        self, weather: Weather, client: Process, server: Process, number: int, on_end: Callable[[Connection], None]
    ) -> None:
        self.number = number
        self.weather = weather
        there, back = Pipe(weather), Pipe(weather)
        self.client = Stream(client, self, incoming=back, outgoing=there, port=number)
        self.server = Stream(server, self, incoming=there, outgoing=back, port=number)
        self.last_troubled_s = -inf
        self.is_lost = False
        self._on_end = on_end
        self._pipes = (there, back)

    @property
    def is_troubled(self) -> bool:
        """Whether something waits on its way."""
        return any(pipe.is_held for pipe in self._pipes)

    def was_troubled(self, since_s: float) -> bool:
        """Whether anything has kept the ends from hearing each other since then."""
        return (
            self.is_troubled
            or self.client.process.is_frozen
            or max(self.last_troubled_s, self.client.process.last_frozen_s) >= since_s
        )

    def hold(self, *, both: bool, there: bool = True) -> None:
        """Let bytes wait on their way, in one direction or in both."""
        for pipe, is_meant in zip(self._pipes, (both or there, both or not there), strict=True):
            pipe.is_held |= is_meant

    def lose(self) -> None:
        """Let nothing arrive any more, as when a machine loses its power: nobody tells the other end."""
        self.hold(both=True)
        self.is_lost = True

    def release(self) -> None:
        """Let them go on."""
        if self.is_lost:
            return
        if self.is_troubled:
            self.last_troubled_s = self.weather.now_s()
        for pipe in self._pipes:
            pipe.release()

    def cut(self) -> None:
        """Break it: each end hears of it a little later, and what was under way is lost from some byte on."""
        self.release()
        self.last_troubled_s = self.weather.now_s()
        for pipe in self._pipes:
            pipe.break_off()

    def closed(self) -> None:
        """Forget the connection once both ends are closed."""
        if self.client.is_closed and self.server.is_closed:
            self._on_end(self)


class Stream(ByteStream):
    """One end of a connection."""

    def __init__(self, process: Process, connection: Connection, *, incoming: Pipe, outgoing: Pipe, port: int) -> None:
        self.process = process
        self.connection = connection
        self.is_closed = False
        self.last_heard_s: float | None = None
        self.closed_s: float | None = None
        self._incoming = incoming
        self._outgoing = outgoing
        self._port = port
        self.on_sent: Callable[[bytes], None] = lambda _: None
        process.endpoints[self] = None

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Tell the address of the other end."""
        return {SocketAttribute.remote_address: lambda: ("10.0.0.1", self._port)}

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Wait for bytes."""
        await checkpoint_if_cancelled()
        pipe = self._incoming
        while not pipe.arrived:
            if self.is_closed:
                raise ClosedResourceError
            if pipe.has_ended:
                if pipe.is_broken:
                    raise BrokenResourceError
                raise EndOfStream
            await pipe.wait()
        self.last_heard_s = self.connection.weather.now_s()
        return pipe.take(max_bytes)

    async def send(self, item: bytes) -> None:
        """Send bytes; they are under way when this returns."""
        await checkpoint_if_cancelled()
        if self.is_closed:
            raise ClosedResourceError
        await self._outgoing.room()
        if self._outgoing.is_broken and self._incoming.has_ended:
            raise BrokenResourceError
        if self.process.is_dead:
            return
        self.on_sent(item)
        if not self._outgoing.is_broken:
            self._outgoing.send(item)

    async def send_eof(self) -> None:
        """Say that nothing follows."""
        self._outgoing.end()

    async def aclose(self) -> None:
        """Close this end."""
        self._close()
        await checkpoint()

    def die(self) -> None:
        """Close it as the system does when the process is gone: what was sent may be lost in part."""
        if not self.is_closed:
            self._outgoing.break_off()
            self._incoming.is_broken = True
            self._close()

    def _close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self.closed_s = self.connection.weather.now_s()
        self.process.endpoints.pop(self, None)
        if not self._outgoing.is_broken:
            self._outgoing.end()
        self.connection.weather.later(self.connection.weather.latency_s, self._refuse)
        self.connection.closed()

    def _refuse(self) -> None:
        # What the other end sends from now on is answered by a reset.
        self._incoming.is_broken = True
        self._incoming.tell()
