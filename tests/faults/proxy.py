"""A line between client and server that a test can hold up, cut, and cut after so many bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio import BrokenResourceError, CancelScope, ClosedResourceError, EndOfStream, Event, create_task_group
from anyio.abc import SocketAttribute, SocketStream

READ_SIZE = 65_536
UP, DOWN = "up", "down"
BOTH = (UP, DOWN)


class Proxy:
    """What passes goes to the server and back, unless told otherwise."""

    def __init__(self, target: str, address: str) -> None:
        self.address = address
        self.cut_after: dict[str, int] = {}
        """Direction: the bytes that each new connection lets through before it breaks."""
        self.came = 0
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._pairs: set[CancelScope] = set()
        self._closed: set[str] = set()
        self._opened = Event()

    def hold(self, *directions: str) -> None:
        """Let nothing through in these directions, and let nobody know: the bytes wait, as lost packets do."""
        self._closed = set(directions)

    def let_go(self) -> None:
        """Let everything through again."""
        self._closed = set()
        self._opened.set()
        self._opened = Event()

    def cut(self) -> None:
        """Break all connections."""
        for scope in self._pairs:
            scope.cancel()

    async def serve(self, client: SocketStream) -> None:
        """Pass on what comes on one connection, until one side ends it or the proxy cuts it."""
        self.came += 1
        with CancelScope() as scope:
            self._pairs.add(scope)
            try:
                async with (
                    client,
                    await anyio.connect_tcp(self._host, self._port) as server,
                    create_task_group() as pair,
                ):
                    pair.start_soon(self._pass, client, server, UP, scope)
                    pair.start_soon(self._pass, server, client, DOWN, scope)
            except (OSError, BrokenResourceError):
                pass  # no server; the client's connection ends too
            finally:
                self._pairs.discard(scope)

    async def _pass(self, source: SocketStream, sink: SocketStream, direction: str, scope: CancelScope) -> None:
        left = self.cut_after.get(direction)
        try:
            while left is None or left > 0:
                data = await source.receive(READ_SIZE)
                while direction in self._closed:
                    await self._opened.wait()
                await sink.send(data[:left])
                left = None if left is None else left - len(data)
        except (EndOfStream, BrokenResourceError, ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def between(target: str) -> AsyncIterator[Proxy]:
    """Stand between the server at `target` and whoever connects to the proxy's own address."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy = Proxy(target, f"127.0.0.1:{listener.extra(SocketAttribute.local_port)}")
    async with listener, create_task_group() as group:
        group.start_soon(listener.serve, proxy.serve)
        yield proxy
        group.cancel_scope.cancel()
