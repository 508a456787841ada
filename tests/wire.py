"""The wire, spoken by hand: whatever a message is, right or wrong, a test can say it."""

from __future__ import annotations

import json
from typing import Any

import anyio
from anyio import EndOfStream, fail_after
from anyio.abc import ByteStream

from tests.waiting import LONG_S

Line = dict[str, Any]


class Wire:
    """One connection; a message is a dict, as the JSON has it."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._unread = b""

    async def say(self, *messages: Line) -> None:
        """Send messages in one piece."""
        await self.say_bytes(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    async def say_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self._stream.send(data)

    async def hear(self) -> Line:
        """Give the next message."""
        with fail_after(LONG_S):
            while b"\n" not in self._unread:
                self._unread += await self._stream.receive()
        line, _, self._unread = self._unread.partition(b"\n")
        message: Line = json.loads(line)
        return message

    async def hear_some(self, most_bytes: int) -> bytes:
        """Give what comes next, no more than so many bytes of it, whatever it means."""
        return await self._stream.receive(most_bytes)

    async def expect(self, kind: str, **fields: Any) -> Line:
        """Give the next message, which must be of this type and have these fields."""
        message = await self.hear()
        found = {name: message.get(name) for name in ("type", *fields)}
        assert found == {"type": kind, **fields}, message
        return message

    async def ask(self, message: Line) -> Line:
        """Send a message and give what comes next."""
        await self.say(message)
        return await self.hear()

    async def hear_all(self) -> list[Line]:
        """Give everything up to the end of the connection."""
        heard = []
        try:
            while True:
                heard.append(await self.hear())
        except (EndOfStream, anyio.BrokenResourceError):
            return heard

    async def end_input(self) -> None:
        """Say that nothing more comes, and go on listening."""
        await self._stream.send_eof()

    async def hang_up(self) -> None:
        """Close the connection without a word."""
        await self._stream.aclose()
