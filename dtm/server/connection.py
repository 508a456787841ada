"""One connection's bytes: lines in, lines out, each within its bounds.

Knows nothing of what a message means; that is the session's.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import structlog
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, create_task_group
from anyio.abc import ByteStream, SocketAttribute

from dtm.protocol import messages
from dtm.protocol.codec import BadLine, ErrorCode, decode_from_client
from dtm.protocol.framing import LineBuffer, LineTooLong
from dtm.protocol.messages import Message
from dtm.server.hub import Hub
from dtm.server.outbox import Outbox, TooSlow
from dtm.server.session import Session

READ_SIZE = 256 * 1024
LAST_ANSWERS_S = 10.0
_PUTS_NOTHING = (messages.PingRequest, messages.Query)

log = structlog.get_logger()


class Connection:
    """A client's connection, from its first byte to its last."""

    def __init__(self, stream: ByteStream, hub: Hub) -> None:
        self._stream = stream
        self._hub = hub
        self._address = _address(stream)
        self._outbox = Outbox(hub.committer.wake, hub.settings.limits)
        self._scope = anyio.CancelScope()
        self._listens = False
        self._session = Session(hub, outlet=self, address=self._address)

    @property
    def is_full(self) -> bool:
        """Whether the peer is behind with reading."""
        return self._outbox.is_full

    @property
    def is_heard(self) -> bool:
        """Whether the peer is listened to now; not while it has to wait for the disk or to read itself."""
        return self._listens

    def send(self, messages: Sequence[Message]) -> None:
        """Queue messages for the peer; returns at once."""
        try:
            self._outbox.put(messages)
        except TooSlow as error:
            self.cut(str(error))

    def cut(self, reason: str) -> None:
        """Close the connection now."""
        log.warning("connection.cut", address=self._address, reason=reason)
        self._scope.cancel()

    def close(self) -> None:
        """Close the connection once everything queued is written."""
        self._outbox.close()

    async def run(self) -> None:
        """Serve the connection until either side ends it."""
        log.info("client.connect", address=self._address)
        try:
            with self._scope:
                async with create_task_group() as group:
                    group.start_soon(self._read)
                    await self._write()
                    group.cancel_scope.cancel()
        finally:
            self._session.leave()
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()

    async def _write(self) -> None:
        try:
            await self._outbox.write_to(self._stream)
        except TooSlow as error:
            self.cut(str(error))
        except (BrokenResourceError, ClosedResourceError):
            pass  # the peer is gone; the session's end says so

    async def _read(self) -> None:
        lines = LineBuffer(self._hub.settings.limits.max_line)
        while not self._session.is_over and (data := await self._receive()):
            self._session.heard()
            try:
                for line in lines.feed(data):
                    await self._take(line)
                    if self.is_full:
                        await self._outbox.room()
            except (LineTooLong, BadLine) as error:
                self.send([_refusal(error)])
                break
            # Nobody listened meanwhile; it may have spoken.
            self._session.heard()
        # A peer that has said everything may still want to hear what became of it.
        with anyio.move_on_after(LAST_ANSWERS_S):
            await self._session.answered()
        self._outbox.close()

    async def _take(self, line: bytes) -> None:
        if not line or line.isspace():
            return  # somebody at a keyboard
        try:
            message = decode_from_client(line)
        except BadLine as error:
            if error.is_fatal:
                raise
            self.send([_refusal(error)])
        else:
            await self._session.take(message)
            # Whoever fills the batch waits for the disk; whoever only pings or asks does not.
            if self._hub.committer.is_full and not isinstance(message, _PUTS_NOTHING):
                await self._hub.committer.room()

    async def _receive(self) -> bytes:
        self._listens = True
        try:
            return await self._stream.receive(READ_SIZE)
        except (EndOfStream, BrokenResourceError, ClosedResourceError):
            return b""
        finally:
            self._listens = False


def _refusal(error: LineTooLong | BadLine) -> messages.Error:
    if isinstance(error, BadLine):
        return messages.Error(error.code, str(error), error.ref)
    return messages.Error(ErrorCode.LINE_TOO_LONG, str(error))


def _address(stream: ByteStream) -> str:
    address = stream.extra(SocketAttribute.remote_address, "unknown")
    if isinstance(address, str):
        return address
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
