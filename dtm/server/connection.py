"""One connection's bytes: lines in, lines out, each within its bounds.

Knows nothing of what a message means; that is the session's.
"""

from __future__ import annotations

from collections.abc import Sequence
from ssl import SSLError

import anyio
import structlog
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, create_task_group
from anyio.abc import ByteStream

from dtm.protocol import messages
from dtm.protocol.codec import BadLine, ErrorCode, decode_from_client
from dtm.protocol.framing import LineBuffer, LineTooLong
from dtm.protocol.messages import Message
from dtm.server.gate import Place
from dtm.server.hub import Hub
from dtm.server.outbox import Outbox, TooSlow
from dtm.server.patience import Patience, TooLate
from dtm.server.secure import address_of, has_certificate
from dtm.server.session import LOOKS, Session

LAST_ANSWERS_S = 10.0
STRANGERS_MAX_LINE = 4 * 1024
"""Bytes of a line from somebody who has not shown that he may speak here: a handshake needs a hundred."""
_PUTS_NOTHING = (messages.PingRequest, messages.Query)
# The first bytes of every version since SSL 3.0.
_TLS_HELLO = b"\x16\x03"

log = structlog.get_logger()


class Connection:
    """A client's connection, from its first byte to its last."""

    def __init__(self, stream: ByteStream, hub: Hub, place: Place) -> None:
        self._stream = stream
        self._hub = hub
        self._address = address_of(stream)
        self._outbox = Outbox(hub.committer.wake, hub.settings.limits)
        # Each task ends within a scope of its own: one that its group cancels leaves a cycle behind, and in it
        # everything that it had read, until the collector comes.
        self._reading, self._writing = anyio.CancelScope(), anyio.CancelScope()
        self._listens = False
        self._place = place
        place.turn_away = self._turn_away
        self._patience = Patience(hub.settings.limits)
        self._session = Session(
            hub, place=place, outlet=self, address=self._address, has_certificate=has_certificate(stream)
        )
        self._lines = LineBuffer(self._longest_line)

    @property
    def is_full(self) -> bool:
        """Whether the peer is behind with reading."""
        return self._outbox.is_full

    @property
    def is_heard(self) -> bool:
        """Whether the peer is listened to now; not while it has to wait for the disk or to read itself."""
        return self._listens

    def flush(self) -> None:
        """Write what is queued now."""
        self._outbox.flush()

    def send(self, messages: Sequence[Message]) -> None:
        """Queue messages for the peer; returns at once."""
        try:
            self._outbox.put(messages)
        except TooSlow as error:
            self.cut(str(error))

    def cut(self, reason: str) -> None:
        """Close the connection now."""
        log.warning("connection.cut", address=self._address, reason=reason)
        self._reading.cancel()
        self._writing.cancel()

    def close(self) -> None:
        """Close the connection once everything queued is written."""
        self._outbox.close()

    async def run(self) -> None:
        """Serve the connection until either side ends it."""
        log.info("client.connect", address=self._address)
        try:
            async with create_task_group() as group:
                group.start_soon(self._read)
                with self._writing:
                    await self._write()
                self._reading.cancel()
        finally:
            self._session.leave()
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
            # Session and connection know each other, so only the collector frees them, and it seldom comes.
            self._outbox.discard()
            del self._stream, self._lines

    async def _write(self) -> None:
        try:
            await self._outbox.write_to(self._stream)
        except TooSlow as error:
            self.cut(str(error))
        except (BrokenResourceError, ClosedResourceError, SSLError):
            pass  # the peer is gone; the session's end says so

    async def _read(self) -> None:
        with self._reading:
            await self._read_all()

    async def _read_all(self) -> None:
        try:
            while not self._session.is_over and (data := await self._receive()):
                self._session.heard()
                ended = await self._take_all(data)
                self._patience.has_read(ended, has_rest=self._lines.has_rest)
                # Nobody listened meanwhile; it may have spoken.
                self._session.heard()
        except (LineTooLong, BadLine, TooLate) as error:
            self.send([self._refusal(error)])
        # A peer that has said everything may still want to hear what became of it.
        with anyio.move_on_after(LAST_ANSWERS_S):
            await self._session.answered()
        self._outbox.close()

    def _take_at_once(self, data: bytes) -> bytes:
        """Take line after line, up to one that a task has to look at, and give what is left."""
        self._session.heard()
        start = 0
        while (line := self._lines.whole_line(data, start)) is not None and self._is_taken(line):
            start += len(line) + 1
        return data[start:]

    def _is_taken(self, line: bytes) -> bool:
        """Do what a line asks for, unless somebody has to wait first, or for its answer."""
        if self.is_full or self._hub.committer.is_full:
            return False
        try:
            message = decode_from_client(line)
        except BadLine:
            return False  # it is answered where all are read
        if isinstance(message, LOOKS):
            return False
        self._session.take(message)
        if self._session.is_over:
            raise EndOfStream
        return True

    async def _take_all(self, data: bytes) -> int:
        if not self._lines.has_rest and data.startswith(_TLS_HELLO):
            # Its line may never end; whoever wants TLS is to learn at once that there is none.
            raise BadLine(ErrorCode.BAD_JSON, "wanted lines of JSON, found a TLS handshake; this server speaks no TLS")
        ended = 0
        for line in self._lines.feed(data):
            ended += 1
            await self._take(line)
            self._lines.max_line = self._longest_line
            if self.is_full:
                await self._outbox.room()
            if self._session.is_over:
                break
        return ended

    async def _take(self, line: bytes) -> None:
        if not line or line.isspace():
            return  # somebody at a keyboard
        try:
            message = decode_from_client(line)
        except BadLine as error:
            if error.is_fatal or not self._session.is_known:
                raise
            self.send([self._refusal(error)])
        else:
            if isinstance(message, LOOKS):
                await self._session.look(message)
            else:
                self._session.take(message)
            # Whoever fills the batch waits for the disk; whoever only pings or asks does not.
            if self._hub.committer.is_full and not isinstance(message, _PUTS_NOTHING):
                await self._hub.committer.room()

    async def _receive(self) -> bytes:
        self._listens = True
        try:
            return await self._patience.wait_for(self._stream, self._take_at_once, is_stranger=self._place.is_stranger)
        except (EndOfStream, BrokenResourceError, ClosedResourceError, SSLError):
            return b""
        finally:
            self._listens = False

    @property
    def _longest_line(self) -> int:
        return self._hub.settings.limits.max_line if self._session.is_known else STRANGERS_MAX_LINE

    def _refusal(self, error: LineTooLong | BadLine | TooLate) -> messages.Error:
        if isinstance(error, TooLate):
            return messages.Error(ErrorCode.TOO_SLOW, str(error))
        if not self._session.is_known:
            return self._session.refuse_stranger()
        if isinstance(error, BadLine):
            return messages.Error(error.code, str(error), error.ref)
        return messages.Error(ErrorCode.LINE_TOO_LONG, str(error))

    def _turn_away(self, reason: str) -> None:
        log.warning("connection.refused", address=self._address, reason=reason)
        self.send([messages.Error(ErrorCode.TOO_MANY_CONNECTIONS, reason)])
        self.close()
