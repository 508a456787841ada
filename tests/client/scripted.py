"""A server that does what a test tells it to, over real TCP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio import create_task_group
from anyio.abc import SocketAttribute, SocketStream

from tests.waiting import eventually
from tests.wire import Line, Wire


class Scripted:
    """A listening socket; the test accepts its connections one by one, and says what is said on them."""

    host = "127.0.0.1"

    def __init__(self, port: int) -> None:
        self.port = port
        self.came = 0
        self._waiting: list[SocketStream] = []

    @asynccontextmanager
    async def accept(self) -> AsyncIterator[Wire]:
        """Give the next connection, and cut it at the end of the context."""
        await eventually(lambda: self._waiting)
        async with self._waiting.pop(0) as stream:
            yield Wire(stream)

    async def take_in(self, stream: SocketStream) -> None:
        """Note that somebody has connected."""
        self.came += 1
        self._waiting.append(stream)

    async def close(self) -> None:
        """Cut the connections that nobody accepted."""
        for stream in self._waiting:
            await stream.aclose()


@asynccontextmanager
async def listening(port: int = 0) -> AsyncIterator[Scripted]:
    """Listen, on a port of one's own unless told otherwise, as long as the context lasts."""
    listener = await anyio.create_tcp_listener(local_host=Scripted.host, local_port=port)
    scripted = Scripted(listener.extra(SocketAttribute.local_port))
    try:
        async with listener, create_task_group() as group:
            group.start_soon(listener.serve, scripted.take_in)
            yield scripted
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await scripted.close()


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def admission(registration: Line, *, interval_s: float = 10.0, timeout_s: float = 30.0, **fields: Any) -> Line:
    """Write the answer to a worker's registration: all that it names is still its own, unless told otherwise."""
    return {
        "type": "RegisterResponse",
        "client_id": 1,
        "server": "scripted",
        "protocol": 1,
        "heartbeat_interval": interval_s,
        "heartbeat_timeout": timeout_s,
        "resumed": registration["resume"],
        "lost": [],
        **fields,
    }


async def welcome(wire: Wire, **fields: Any) -> Line:
    """Answer a worker's registration, and give it."""
    registration = await wire.expect("Register")
    await wire.say(admission(registration, **fields))
    return registration


def task(assignment: int, kind: str = "Echo", payload: Any = None) -> Line:
    """Write a `Task`; its id is ten times its assignment."""
    return {
        "type": "Task",
        "task_id": 10 * assignment,
        "assignment": assignment,
        "kind": kind,
        "payload": payload,
        "retry_count": 0,
        "timeout": None,
    }


def verdict(message: Line, status: str = "accepted", state: str = "completed") -> Line:
    """Answer a `Result` or a `Release`."""
    numbers = {"task_id": message["task_id"], "assignment": message["assignment"]}
    return {"type": "ResultResponse", **numbers, "status": status, "state": state}
