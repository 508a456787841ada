"""A TCP connection as a byte stream of anyio's that can also be written to at once.

anyio's own wakes a task for each write, and stops and starts the reading around each read; docs/performance.md says
what that costs.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Self, cast

import aiohappyeyeballs
from anyio import BrokenResourceError, BusyResourceError, ClosedResourceError, EndOfStream, getaddrinfo
from anyio.abc import ByteReceiveStream, ByteStream, SocketAttribute
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

# How long one address of a host may take before the next is tried beside it (RFC 8305, section 8).
_NEXT_ADDRESS_S = 0.25


async def connect_tcp(host: str, port: int) -> TcpStream:
    """Connect to the first address of `host` that answers.

    Raises:
        OSError: there is no such host, or none of its addresses answers.
    """
    addresses = await getaddrinfo(host, port, type=socket.SOCK_STREAM)
    try:
        connected = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S)
    except RuntimeError as error:
        raise OSError(str(error)) from error  # uvloop's way to say that an address cannot be tried
    return await TcpStream.over(connected)


Take = Callable[[bytes], bytes]
"""Takes bytes the moment they come, in the event loop's own callback, and gives those that it leaves. Must not wait."""


async def receive_rest(stream: ByteReceiveStream, take: Take, max_bytes: int) -> bytes:
    """Wait for bytes that `take` leaves, or that came before it could be asked.

    A task that wakes for what one callback could do costs a turn of the loop. Of streams other than a `TcpStream` all
    is given, and `take` is not asked.

    Raises:
        Exception: as `stream.receive`, or what `take` raised.
    """
    if isinstance(stream, TcpStream):
        return await stream.receive(max_bytes, take)
    return await stream.receive(max_bytes)


class TcpStream(asyncio.Protocol, ByteStream):
    """A connected socket. One task reads; others, or whoever must not wait, write."""

    _transport: asyncio.Transport

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._chunks: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._take: Take | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_paused = False
        self._has_ended = False
        self._is_closed = False
        self._error: Exception | None = None

    @classmethod
    async def over(cls, connected: socket.socket) -> Self:
        """Take over a socket that is connected and does not block; it is closed if that fails."""
        try:
            _, stream = await asyncio.get_running_loop().connect_accepted_socket(lambda: cls(connected), connected)
        except BaseException:
            connected.close()
            raise
        return stream

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Show the socket and the address of the peer."""
        return {
            SocketAttribute.raw_socket: lambda: self._socket,
            SocketAttribute.remote_address: lambda: self._transport.get_extra_info("peername"),
        }

    async def receive(self, max_bytes: int = 65536, take: Take | None = None) -> bytes:
        """Wait for bytes; what `take` takes meanwhile is not among them.

        Raises:
            Exception: what `take` raised.
            EndOfStream: the peer sends nothing more.
            BrokenResourceError: the connection broke.
            ClosedResourceError: it was closed here.
            BusyResourceError: another task waits already.
        """
        if self._reader is not None:
            raise BusyResourceError("reading from")
        if not self._chunks and not self._is_over:
            if self._is_paused:
                self._is_paused = False
                self._transport.resume_reading()
            await self._news(take)
        if not self._chunks:
            raise self._reason()
        chunk = self._chunks.popleft()
        if len(chunk) > max_bytes:
            self._chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        return chunk

    async def send(self, item: bytes) -> None:
        """Send bytes; the system has taken them when this returns. Cancelled, it may have taken a part of them.

        Raises:
            BrokenResourceError: the connection broke.
            ClosedResourceError: it was closed here.
        """
        await checkpoint_if_cancelled()
        self._require_open()
        self._transport.write(item)
        if self._has_room.is_set():
            await cancel_shielded_checkpoint()
        else:
            await self._has_room.wait()
            self._require_open()

    def send_nowait(self, item: bytes) -> int:
        """Give the system as many of the bytes as it takes at once, and say how many those are.

        None, if the connection is broken: `send` says so.
        """
        if self._is_closed or not self._has_room.is_set():
            return 0  # what came before has to go first
        try:
            return self._socket.send(item)
        except OSError:
            return 0

    async def send_eof(self) -> None:
        """Say that nothing follows."""
        if not self._transport.is_closing():
            self._transport.write_eof()

    async def aclose(self) -> None:
        """Close the connection; what the system has not taken is lost."""
        self._is_closed = True
        self._transport.abort()
        await checkpoint()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are transports by their methods only.
        self._transport = cast("asyncio.Transport", transport)
        # So that what waits here waits nowhere else: `send` ends when the system has taken all.
        self._transport.set_write_buffer_limits(0)

    def data_received(self, data: bytes) -> None:
        chunk = bytes(data)  # some loops give a bytearray
        if self._reader is None or self._reader.done():
            self._chunks.append(chunk)
            # It is behind with reading: the peer is to notice.
            self._is_paused = True
            self._transport.pause_reading()
        elif rest := self._left_of(chunk):
            self._chunks.append(rest)
            self._tell_reader()

    def eof_received(self) -> bool:
        self._has_ended = True
        self._tell_reader()
        return True  # and goes on being written to

    def pause_writing(self) -> None:
        self._has_room.clear()

    def resume_writing(self) -> None:
        self._has_room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = exc
        self._tell_reader()
        self._has_room.set()

    @property
    def _is_over(self) -> bool:
        return self._has_ended or self._transport.is_closing()

    def _reason(self) -> Exception:
        if self._is_closed:
            return ClosedResourceError()
        return EndOfStream() if self._error is None else BrokenResourceError(str(self._error))

    def _require_open(self) -> None:
        if self._is_closed:
            raise ClosedResourceError
        if self._transport.is_closing():
            raise BrokenResourceError from self._error

    async def _news(self, take: Take | None) -> None:
        self._reader, self._take = asyncio.get_running_loop().create_future(), take
        try:
            await self._reader
        finally:
            self._reader = self._take = None

    def _left_of(self, chunk: bytes) -> bytes:
        try:
            return chunk if self._take is None else self._take(chunk)
        except Exception as error:  # noqa: BLE001  it is raised where the stream is read
            # This frame must not know the reader: error, frame and reader would be a cycle with the chunk in it.
            self._tell_reader(error)
            return b""

    def _tell_reader(self, error: Exception | None = None) -> None:
        if self._reader is None or self._reader.done():
            return
        if error is None:
            self._reader.set_result(None)
        else:
            self._reader.set_exception(error)
