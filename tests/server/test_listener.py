"""Listening: addresses that cannot be had, and an accept loop that nothing ends."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest
from anyio import create_task_group
from anyio.abc import ByteStream, SocketAttribute
from structlog.testing import capture_logs

from dtm.server.listener import CannotListen, TcpListener, accept_forever, listen, port_of
from tests.waiting import eventually


async def close(listeners: list[TcpListener]) -> None:
    """Close them all."""
    for listener in listeners:
        await listener.aclose()


async def test_port_0_picks_one_that_is_free() -> None:
    """And says which."""
    listeners = await listen("127.0.0.1", 0)

    assert 0 < port_of(listeners) < 65_536
    await close(listeners)


async def test_a_port_in_use_is_said_so() -> None:
    """With what to do."""
    listeners = await listen("127.0.0.1", 0)
    port = port_of(listeners)

    with pytest.raises(CannotListen, match=f"127.0.0.1:{port}: the port is in use.*choose another --port"):
        await listen("127.0.0.1", port)
    await close(listeners)


async def test_a_port_is_free_again_at_once() -> None:
    """A server that is started again does not wait for the old connections' time-outs."""
    listeners = await listen("127.0.0.1", 0)
    port = port_of(listeners)
    client = socket.create_connection(("127.0.0.1", port))
    await (await listeners[0].accept()).aclose()
    await close(listeners)

    await close(await listen("127.0.0.1", port))
    client.close()


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ("192.0.2.1", "this machine has no such address; choose another --host"),
        ("no.such.host.invalid", "no such host"),
    ],
)
async def test_an_address_that_is_not_ours_is_said_so(host: str, complaint: str) -> None:
    """Of another machine, or of none."""
    with pytest.raises(CannotListen, match=complaint):
        await listen(host, 12345)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may listen anywhere")
async def test_a_port_that_is_not_allowed_is_said_so() -> None:
    """It is the system's."""
    with pytest.raises(CannotListen, match="choose a --port above 1023"):
        await listen("127.0.0.1", 1)


async def test_one_connections_failure_does_not_end_the_others() -> None:
    """It is logged with its traceback."""
    listeners = await listen("127.0.0.1", 0)
    served = 0

    async def serve(stream: ByteStream) -> None:
        nonlocal served
        served += 1
        async with stream:
            if served == 1:
                raise ZeroDivisionError("a defect")

    with capture_logs() as events:
        async with create_task_group() as group:
            group.start_soon(accept_forever, listeners[0], serve, group)
            for _ in range(3):
                await (await anyio.connect_tcp("127.0.0.1", port_of(listeners))).aclose()
            await eventually(lambda: served == 3)
            group.cancel_scope.cancel()

    assert [event["event"] for event in events] == ["connection.failed"]
    await close(listeners)


class Exhausted:
    """A listener that cannot accept for a while."""

    def __init__(self, listener: TcpListener, failures: int) -> None:
        self._listener = listener
        self._failures = failures

    def extra(self, attribute: object) -> Any:
        """Show what the listener shows."""
        return self._listener.extra(attribute)

    async def accept(self) -> ByteStream:
        """Fail, or accept."""
        if self._failures:
            self._failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return await self._listener.accept()

    async def aclose(self) -> None:
        """Close."""
        await self._listener.aclose()


async def test_a_full_table_of_descriptors_only_delays() -> None:
    """Those that are connected are served, and new ones as soon as it goes."""
    listeners = await listen("127.0.0.1", 0)
    exhausted = Exhausted(listeners[0], failures=2)
    served: list[ByteStream] = []

    async def serve(stream: ByteStream) -> None:
        served.append(stream)
        await stream.aclose()

    with capture_logs() as events:
        async with create_task_group() as group:
            group.start_soon(accept_forever, exhausted, serve, group)
            await (await anyio.connect_tcp("127.0.0.1", port_of(listeners))).aclose()
            await eventually(lambda: served)
            group.cancel_scope.cancel()

    assert [(event["event"], event["seconds"]) for event in events] == [
        ("listener.paused", 0.1),
        ("listener.paused", 0.2),
    ]
    await close(listeners)


async def test_a_connection_whose_peer_has_vanished_is_found_out() -> None:
    """Nobody has to ping who is no worker; so the system probes."""
    listeners = await listen("127.0.0.1", 0)
    found: list[int] = []

    async def serve(stream: ByteStream) -> None:
        raw = stream.extra(SocketAttribute.raw_socket)
        found.append(raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        await stream.aclose()

    async with create_task_group() as group:
        group.start_soon(accept_forever, listeners[0], serve, group)
        await (await anyio.connect_tcp("127.0.0.1", port_of(listeners))).aclose()
        await eventually(lambda: found)
        group.cancel_scope.cancel()

    assert found == [1]
    await close(listeners)


class Gone(ByteStream):
    """A connection that the system has given up already, as macOS says it of a peer that was very quick to leave."""

    def __init__(self) -> None:
        self._raw = socket.socket()
        self._raw.close()
        self.is_closed = False

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Show the socket."""
        return {SocketAttribute.raw_socket: lambda: self._raw}

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """Find out."""
        raise anyio.EndOfStream

    async def send(self, item: bytes) -> None:
        """Find out."""
        raise anyio.BrokenResourceError

    async def send_eof(self) -> None:
        """Say nothing."""

    async def aclose(self) -> None:
        """Close."""
        self.is_closed = True


class Visitors:
    """A listener to whom some come, and then nobody."""

    def __init__(self, *streams: ByteStream) -> None:
        self._streams = list(streams)

    async def accept(self) -> ByteStream:
        """Give the next."""
        if not self._streams:
            await anyio.sleep_forever()
        return self._streams.pop(0)

    def extra(self, attribute: object, default: object = None) -> Any:
        """Show nothing."""
        return default

    async def aclose(self) -> None:
        """Close."""


async def test_a_peer_that_is_gone_at_once_ends_nothing() -> None:
    """It is served as any other, finds out by reading, and is closed."""
    visitors = [Gone(), Gone()]

    async def serve(stream: ByteStream) -> None:
        async with stream:
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()

    with capture_logs() as events:
        async with create_task_group() as group:
            group.start_soon(accept_forever, Visitors(*visitors), serve, group)
            await eventually(lambda: all(visitor.is_closed for visitor in visitors))
            group.cancel_scope.cancel()

    assert events == []
