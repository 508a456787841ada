"""A line between client and server that a test can hold up, cut, and cut after so many bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

import anyio
from anyio import BrokenResourceError, CancelScope, ClosedResourceError, EndOfStream, Event, Lock, create_task_group
from anyio.abc import SocketAttribute, SocketStream

from tests.wire import Wire

READ_SIZE = 65_536
UP, DOWN = "up", "down"
BOTH = (UP, DOWN)


class Proxy:
    """What passes goes to the server and back, unless told otherwise."""

    def __init__(self, target: str, address: str) -> None:
        self.address = address
        self._next_cut: dict[str, int] = {}
        self._came = Event()
        self._turn = Lock()
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

    @asynccontextmanager
    async def dial(self, cut_after: Mapping[str, int]) -> AsyncIterator[Wire]:
        """Connect to the server; the connection lets so many bytes through in each direction, and breaks."""
        async with self._turn:
            self._next_cut, self._came = dict(cut_after), Event()
            host, _, port = self.address.rpartition(":")
            stream = await anyio.connect_tcp(host, int(port))
            await self._came.wait()
            self._next_cut = {}
        async with stream:
            yield Wire(stream)

    async def serve(self, client: SocketStream) -> None:
        """Pass on what comes on one connection, until one side ends it or the proxy cuts it."""
        limits = self._next_cut
        self._came.set()
        with CancelScope() as scope:
            self._pairs.add(scope)
            try:
                async with (
                    client,
                    await anyio.connect_tcp(self._host, self._port) as server,
                    create_task_group() as pair,
                ):
                    over = pair.cancel_scope
                    pair.start_soon(partial(self._pass, client, server, UP, limit=limits.get(UP), over=over))
                    pair.start_soon(partial(self._pass, server, client, DOWN, limit=limits.get(DOWN), over=over))
            except (OSError, BrokenResourceError):
                pass  # no server; the client's connection ends too
            finally:
                self._pairs.discard(scope)

    async def _pass(
        self, source: SocketStream, sink: SocketStream, direction: str, *, limit: int | None, over: CancelScope
    ) -> None:
        left = limit
        try:
            while left is None or left > 0:
                data = await source.receive(READ_SIZE)
                while direction in self._closed:
                    await self._opened.wait()
                await sink.send(data[:left])
                left = None if left is None else left - len(data)
        except (EndOfStream, BrokenResourceError, ClosedResourceError):
            pass
        over.cancel()


@asynccontextmanager
async def between(target: str) -> AsyncIterator[Proxy]:
    """Stand between the server at `target` and whoever connects to the proxy's own address."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy = Proxy(target, f"127.0.0.1:{listener.extra(SocketAttribute.local_port)}")
    async with listener, create_task_group() as group:
        group.start_soon(listener.serve, proxy.serve)
        yield proxy
        group.cancel_scope.cancel()
