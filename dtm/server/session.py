"""One client's conversation: each message goes to the part of the connection that it concerns.

Knows no bytes, no SQL and no tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dtm.protocol import messages
from dtm.protocol.messages import ClientMessage
from dtm.server.hub import Hub
from dtm.server.membership import Membership
from dtm.server.requests import Requests
from dtm.server.roster import Outlet
from dtm.server.translate import Unacceptable, refusal


class Session:
    """What is said on one connection."""

    def __init__(self, hub: Hub, *, outlet: Outlet, address: str) -> None:
        self._hub = hub
        self._outlet = outlet
        self._said_goodbye = False
        self._membership = Membership(hub, outlet=outlet, address=address)
        self._requests = Requests(hub, outlet=outlet)
        self._does: dict[type, Callable[[Any], None]] = {
            messages.Result: self._membership.result,
            messages.Submit: self._requests.submit,
            messages.PingRequest: self._ping,
            messages.Release: self._membership.release,
            messages.Register: self._membership.register,
            messages.Capacity: self._membership.capacity,
            messages.Admin: self._requests.admin,
            messages.Goodbye: self._goodbye,
        }

    @property
    def is_over(self) -> bool:
        """Whether the peer has nothing more to say."""
        return self._said_goodbye

    def heard(self) -> None:
        """Note that the peer is alive."""
        self._membership.heard()

    async def answered(self) -> None:
        """Wait until everything the peer asked for has been committed and answered."""
        await self._hub.committer.caught_up()

    def leave(self) -> None:
        """Note that the connection is gone."""
        self._requests.leave()
        self._membership.leave(said_goodbye=self._said_goodbye)

    async def take(self, message: ClientMessage) -> None:
        """Do what the peer asks for; only a look into the store takes time."""
        try:
            if isinstance(message, messages.Query):
                await self._requests.query(message)
            else:
                self._does[type(message)](message)
        except Unacceptable as error:
            self._outlet.send([refusal(error.code, str(error), message)])

    def _ping(self, message: messages.PingRequest) -> None:
        self._outlet.send([messages.PingResponse(message.timestamp)])

    def _goodbye(self, _: messages.Goodbye) -> None:
        self._said_goodbye = True
