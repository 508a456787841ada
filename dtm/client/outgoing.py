"""What is to be said on one connection, in order, many messages a write."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

import anyio
from anyio import CancelScope, Event

from dtm.client.link import Link, LinkLost
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
    """A queue of messages that one task sends."""

    def __init__(self) -> None:
        self._messages: list[ClientMessage] = []
        self._filled = Event()
        self._flushed = Event()

    def put(self, messages: Iterable[ClientMessage]) -> None:
        """Queue messages."""
        self._messages.extend(messages)
        if self._messages:
            self._filled.set()

    async def flushed(self) -> None:
        """Wait until everything queued has been sent."""
        while self._messages:
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

    async def _send_within(self, scope: CancelScope, link: Link) -> None:
        """Send what is queued, each part within the deadline.

        Ends if a deadline passed although its part was taken: this process stood still, and the scope is spent.
        """
        while not scope.cancel_called:
            if not self._messages:
                self._flushed.set()
                self._flushed = Event()
                self._filled = Event()
                await self._filled.wait()
                continue
            part = self._messages[:MOST_AT_ONCE]
            scope.deadline = anyio.current_time() + SEND_TIMEOUT_S
            await link.send(part)
            scope.deadline = inf
            del self._messages[: len(part)]
