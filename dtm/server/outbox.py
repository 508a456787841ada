"""The lines on their way to one connection, bounded in size and time: written at once, or by a task that waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from math import inf

from anyio import CancelScope, Event, current_time
from anyio.abc import ByteSendStream

from dtm.net.stream import TcpStream
from dtm.protocol.codec import encode_all
from dtm.protocol.messages import Message
from dtm.server.limits import Limits

HIGH_WATER = 1024 * 1024
"""Bytes from which on the connection is not read and gets no tasks: whoever does not read is not served either."""

MAX_PIECE = 256 * 1024
"""Bytes written at once, each time within the deadline: whoever reads slowly but steadily is not too slow."""


class TooSlow(Exception):
    """The peer does not read what it is sent."""


class Outbox:
    """What is queued for one connection."""

    def __init__(self, on_room: Callable[[], None], limits: Limits) -> None:
        self._on_room = on_room
        self._limits = limits
        self._lines: list[bytes] = []
        self._pieces: deque[bytes] = deque()
        self._queued = 0
        self._unwritten = 0
        self._filled = Event()
        self._drained = Event()
        self._is_closing = False
        self._is_discarded = False
        self._is_due = False
        # While nothing waits to be written, and if it can be written to at once.
        self._idle: TcpStream | None = None

    @property
    def is_full(self) -> bool:
        """Whether the peer is behind with reading."""
        return self._queued > HIGH_WATER

    def put(self, messages: Sequence[Message]) -> None:
        """Queue messages; returns at once.

        Raises:
            TooSlow: too much waits already.
        """
        if self._is_discarded:
            return
        data = encode_all(messages)
        if self._queued + len(data) > self._limits.max_queued:
            raise TooSlow(f"{self._queued:,} bytes wait to be read; no more than {self._limits.max_queued:,} may")
        if self._unwritten + len(messages) > self._limits.max_queued_messages:
            raise TooSlow(
                f"{self._unwritten:,} messages wait to be read; no more than {self._limits.max_queued_messages:,} may"
            )
        self._lines.append(data)
        self._queued += len(data)
        self._unwritten += len(messages)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what is queued as far as that goes without waiting; `write_to` does the rest.

        Comes by itself in the next turn of the loop, so that what is queued in one turn makes up one write.
        """
        self._is_due = False
        if self._idle is not None and self._lines:
            self._cut()
            self._write_nowait(self._idle)
        if self._lines or self._pieces:
            self._filled.set()

    def close(self) -> None:
        """Let `write_to` end once everything is written."""
        self._is_closing = True
        self._filled.set()

    def discard(self) -> None:
        """Forget what was not written, and whatever comes; nobody will read it."""
        self._lines.clear()
        self._pieces.clear()
        self._is_discarded = True

    async def room(self) -> None:
        """Wait until the peer has read most of what is queued."""
        while self.is_full:
            await self._drained.wait()

    async def write_to(self, stream: ByteSendStream) -> None:
        """Write what is queued, as it comes, until the box is closed.

        Raises:
            TooSlow: the peer did not take a piece in time.
        """
        while not self._is_done:
            # One scope for many pieces: to enter one costs as much as to send.
            with CancelScope() as scope:
                await self._write_within(scope, stream)
            if scope.cancelled_caught:
                # A piece may be half written; the caller closes the connection.
                raise TooSlow(f"the next bytes were not taken within {self._limits.send_deadline_s:g} s")

    @property
    def _is_done(self) -> bool:
        return self._is_closing and not self._lines and not self._pieces

    async def _write_within(self, scope: CancelScope, stream: ByteSendStream) -> None:
        """Write piece after piece, each within the deadline.

        Ends early if a deadline passed although its piece was taken: this process stood still, and the scope is spent.
        """
        while not self._is_done and not scope.cancel_called:
            if self._pieces:
                await self._send(scope, stream)
            elif self._lines:
                self._cut()
            else:
                self._filled = Event()
                self._idle = stream if isinstance(stream, TcpStream) else None
                try:
                    await self._filled.wait()
                finally:
                    self._idle = None

    def _cut(self) -> None:
        data = b"".join(self._lines)
        self._lines.clear()
        self._unwritten = 0
        self._pieces.extend(data[start : start + MAX_PIECE] for start in range(0, len(data), MAX_PIECE))

    def _write_nowait(self, stream: TcpStream) -> None:
        while self._pieces:
            piece = self._pieces[0]
            taken = stream.send_nowait(piece)
            self._count_off(taken)
            if taken < len(piece):
                self._pieces[0] = piece[taken:]
                return
            self._pieces.popleft()

    async def _send(self, scope: CancelScope, stream: ByteSendStream) -> None:
        piece = self._pieces.popleft()
        scope.deadline = current_time() + self._limits.send_deadline_s
        await stream.send(piece)
        scope.deadline = inf
        self._count_off(len(piece))

    def _count_off(self, written: int) -> None:
        was_full = self.is_full
        self._queued -= written
        if was_full and not self.is_full:
            self._drained.set()
            self._drained = Event()
            self._on_room()
