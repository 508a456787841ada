"""The protocol over a plain blocking socket: no event loop and no queue stands between a message and the clock."""

from __future__ import annotations

import socket
from collections import deque
from types import TracebackType
from typing import Self, TypeVar

from bench.process import Failed
from dtm.cli.options import ADDRESS
from dtm.protocol.codec import decode_from_server, encode
from dtm.protocol.framing import LineBuffer
from dtm.protocol.messages import ClientMessage, Message, ServerMessage

TIMEOUT_S = 10.0
_READ_SIZE = 64 * 1024

M = TypeVar("M", bound=Message)


class Wire:
    """A connection to a server, one message at a time."""

    def __init__(self, address: str) -> None:
        at = ADDRESS.convert(address, None, None)
        self._socket = socket.create_connection((at.host, at.port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = LineBuffer()
        self._heard: deque[ServerMessage] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._socket.close()

    def send(self, message: ClientMessage) -> None:
        """Send a message."""
        self._socket.sendall(encode(message))

    def hear(self, kind: type[M]) -> M:
        """Wait for the next message, which must be of `kind`.

        Raises:
            Failed: it is another, or the server hung up.
        """
        while not self._heard:
            data = self._socket.recv(_READ_SIZE)
            if not data:
                raise Failed(f"wanted a {kind.__name__}, but the server hung up")
            self._heard.extend(decode_from_server(line) for line in self._lines.feed(data))
        message = self._heard.popleft()
        if not isinstance(message, kind):
            raise Failed(f"wanted a {kind.__name__}, found {message}")
        return message
