"""What is to be said on one connection, in order, many messages a write."""

from __future__ import annotations

import asyncio
from asyncio import Event
from collections.abc import Iterable
from math import inf

import anyio
from anyio import CancelScope

from dtm.client.link import Link, LinkLost
from dtm.net.pulse import pulse
from dtm.protocol.codec import encode_all
from dtm.protocol.messages import ClientMessage, PingRequest

MOST_AT_ONCE = 1_000
SEND_TIMEOUT_S = 30.0


async def ping_forever(link: Link, outgoing: Outgoing, *, interval_s: float, timeout_s: float) -> None:
    """Show the server that this side lives, and see that the server does.

    Raises:
        LinkLost: it has said nothing for `timeout_s` seconds.
    """
    while True:
        await anyio.sleep(interval_s)
        now_s = anyio.current_time()
        if now_s - link.heard_s > timeout_s:
            raise LinkLost(f"the server was silent for {timeout_s:g} s")
        outgoing.put([PingRequest(now_s)])


class Outgoing:
    """A queue of messages: sent at once, or by a task that waits."""

    def __init__(self) -> None:
        self._messages: list[ClientMessage] = []
        # Lines of which the system has taken a part.
        self._rest = b""
        self._filled = Event()
        self._flushed = Event()
        self._is_due = False
        # While nothing waits to be sent.
        self._idle: Link | None = None

    def put(self, messages: Iterable[ClientMessage]) -> None:
        """Queue messages; what is queued in one turn of the loop is sent together."""
        self._messages.extend(messages)
        if self._messages and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Send what is queued as far as that goes without waiting; `send_over` does the rest."""
        self._is_due = False
        if self._idle is not None:
            while self._messages and not self._rest:
                self._cut()
                self._rest = self._rest[self._idle.send_nowait(self._rest) :]
        if self._is_filled:
            self._filled.set()
        else:
            pulse(self._flushed)

    async def flushed(self) -> None:
        """Wait until everything queued has been sent."""
        while self._is_filled:
            await self._flushed.wait()

    async def send_over(self, link: Link) -> None:
        """Send what is queued, as it comes, for ever.

        Raises:
            LinkLost: the connection broke.
        """
        while True:
            # One scope for all that is sent: to enter one costs as much as to send.
            with CancelScope() as scope:
                await self._send_within(scope, link)
            if scope.cancelled_caught:
                # A line may be half sent: nothing can follow it.
                raise LinkLost(f"the server took nothing for {SEND_TIMEOUT_S:g} s")

    @property
    def _is_filled(self) -> bool:
        return bool(self._messages or self._rest)

    async def _send_within(self, scope: CancelScope, link: Link) -> None:
        """Send what is queued, each part within the deadline.

        Ends if a deadline passed although its part was taken: this process stood still, and the scope is spent.
        """
        while not scope.cancel_called:
            if not self._is_filled:
                pulse(self._flushed)
                self._filled.clear()
                self._idle = link
                try:
                    await self._filled.wait()
                finally:
                    self._idle = None
                continue
            if not self._rest:
                self._cut()
            scope.deadline = anyio.current_time() + SEND_TIMEOUT_S
            await link.send(self._rest)
            scope.deadline = inf
            self._rest = b""

    def _cut(self) -> None:
        part = self._messages[:MOST_AT_ONCE]
        del self._messages[: len(part)]
        self._rest = encode_all(part)
