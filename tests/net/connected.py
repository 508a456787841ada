"""Both ends of a real connection."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dtm.net.stream import TcpStream, connect_tcp

HOST = "127.0.0.1"


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[TcpStream, TcpStream]]:
    """Give both ends of a connection."""
    with socket.create_server((HOST, 0)) as listening:
        async with await connect_tcp(*listening.getsockname()) as one:
            accepted, _ = listening.accept()
            accepted.setblocking(False)
            async with await TcpStream.over(accepted) as other:
                yield one, other
