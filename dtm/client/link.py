"""One connection to a server: messages out, messages in.

Knows no tasks; whoever uses it decides what to do when it breaks.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from ssl import SSLError
from typing import NoReturn

import anyio
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, fail_after
from anyio.abc import ByteStream

from dtm.core.errors import DtmError
from dtm.net.stream import TcpStream, receive_rest
from dtm.protocol.codec import BadLine, decode_from_server
from dtm.protocol.framing import LineBuffer, LineTooLong
from dtm.protocol.messages import ServerMessage

CONNECT_TIMEOUT_S = 10.0
READ_SIZE = 256 * 1024

# What a server may send in a line: its QueryResponse is bounded, its Task and TaskFinished by what it took in.
_MAX_LINE = 2 * 1024 * 1024


Connect = Callable[[str, int], Awaitable[ByteStream]]
"""How a host and a port become a connection: `dtm.client.dial`, unless a test stands for the network."""


class Unreachable(DtmError):
    """No server answers at the address."""


class LinkLost(DtmError):
    """The connection broke, or can no longer be trusted."""


class Link:
    """An open connection."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._lines = LineBuffer(_MAX_LINE)
        self._now_s = asyncio.get_running_loop().time
        self.heard_s = self._now_s()

    @classmethod
    async def open(cls, host: str, port: int, connect: Connect) -> Link:
        """Connect.

        Raises:
            Unreachable: nobody listens there, or not within the timeout.
            NotAdmitted: somebody does, and one of the two refuses the other.
        """
        try:
            with fail_after(CONNECT_TIMEOUT_S):
                return cls(await connect(host, port))
        except TimeoutError:
            raise Unreachable(f"no answer from {host}:{port} within {CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise Unreachable(
                f"cannot reach {host}:{port} ({_reason(error)}); start a server with: dtm-server --db tasks.db"
            ) from error

    async def send(self, lines: bytes) -> None:
        """Send lines; returns once the system has taken them. Whoever is cut short has to close the link.

        Raises:
            LinkLost: it has not.
        """
        try:
            await self._stream.send(lines)
        except (BrokenResourceError, ClosedResourceError, SSLError) as error:
            raise LinkLost("the connection broke while sending") from error

    def send_nowait(self, lines: bytes) -> int:
        """Send what goes of them without waiting, and say how many bytes that was."""
        return self._stream.send_nowait(lines) if isinstance(self._stream, TcpStream) else 0

    async def listen(self, hear: Callable[[list[ServerMessage]], None]) -> NoReturn:
        """Let `hear` have what the server says, as it comes.

        Raises:
            LinkLost: the connection broke, or the server said what no server says.
            Exception: what `hear` raised.
        """

        def take(data: bytes) -> bytes:
            self.heard_s = self._now_s()
            hear([decode_from_server(line) for line in self._lines.feed(data)])
            return b""

        try:
            while True:
                take(await receive_rest(self._stream, take, READ_SIZE))
        except (EndOfStream, BrokenResourceError, ClosedResourceError, SSLError) as error:
            raise LinkLost("the server closed the connection") from error
        except (BadLine, LineTooLong) as error:
            raise LinkLost(f"the server sent what is no message: {error}") from error

    async def close(self) -> None:
        """Close the connection."""
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()


def _reason(error: OSError) -> str:
    """Say why, in the system's words."""
    if not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error.strerror or error)
