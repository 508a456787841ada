"""Accepting connections, for ever: neither a full table of descriptors nor one connection's failure ends it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import anyio
import structlog
from anyio.abc import ByteStream, SocketAttribute, SocketListener, TaskGroup

from dtm.core.errors import DtmError
from dtm.net.stream import TcpStream

BACKLOG = 1024
RETRY_FIRST_S, RETRY_LAST_S = 0.1, 1.0

# After a minute of silence a probe every 10 s; six without an answer end the connection.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}

log = structlog.get_logger()

Serve = Callable[[ByteStream], Awaitable[None]]


class Listener(Protocol):
    """What connections come from: a `TcpListener`, unless a test stands for the network."""

    def extra(self, attribute: Any, /) -> Any:
        """Give one of anyio's typed attributes, such as the local port."""

    async def accept(self) -> ByteStream:
        """Wait for the next connection."""

    async def aclose(self) -> None:
        """Accept no more."""


class TcpListener:
    """A socket that listens."""

    def __init__(self, listener: SocketListener) -> None:
        self._listener = listener

    def extra(self, attribute: Any, /) -> Any:
        """Give one of anyio's typed attributes, such as the local port."""
        return self._listener.extra(attribute)

    async def accept(self) -> ByteStream:
        """Wait for the next connection."""
        listening = self._listener.extra(SocketAttribute.raw_socket)
        accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
        return await TcpStream.over(accepted)

    async def aclose(self) -> None:
        """Accept no more."""
        await self._listener.aclose()


class CannotListen(DtmError):
    """The address cannot be had."""


async def listen(host: str, port: int) -> list[TcpListener]:
    """Open the listening sockets of `host`; port 0 picks one that is free.

    Raises:
        CannotListen: the address is in use, not this machine's, or not allowed.
    """
    try:
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port, backlog=BACKLOG)
    except socket.gaierror as error:
        raise CannotListen(
            f"cannot listen on {host}: no such host ({error.strerror}); choose another --host"
        ) from error
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {_reason(error)}") from error
    return [TcpListener(part) for part in listener.listeners if isinstance(part, SocketListener)]


def port_of(listeners: Sequence[Listener]) -> int:
    """Say which port was picked."""
    port: int = listeners[0].extra(SocketAttribute.local_port)
    return port


async def accept_forever(listener: Listener, serve: Serve, group: TaskGroup) -> None:
    """Let `group` serve each connection that comes in."""
    pause_s = RETRY_FIRST_S
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:
            # Descriptors or memory have run out; those that are connected go on, and free some.
            log.warning("listener.paused", reason=error.strerror, seconds=pause_s)
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_LAST_S)
        else:
            pause_s = RETRY_FIRST_S
            _watch_over(stream)
            group.start_soon(_guarded, serve, stream)


def _watch_over(stream: ByteStream) -> None:
    """Let the system find out when the peer's machine or the way to it is gone; a producer need not ping."""
    raw = stream.extra(SocketAttribute.raw_socket, None)
    if raw is None:
        return
    with suppress(OSError):  # a peer that is gone already; whoever reads from it finds out
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _guarded(serve: Serve, stream: ByteStream) -> None:
    try:
        await serve(stream)
    except Exception:
        # The frame decoder's peer, not the server: whatever one connection does, the others go on.
        log.exception("connection.failed")


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use, perhaps by another dtm-server; choose another --port, or 0 for any"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; choose another --host"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not allowed; choose a --port above 1023"
    return str(error.strerror)
