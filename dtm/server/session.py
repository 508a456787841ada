"""One client's conversation: each message goes to the part of the connection that it concerns.

Knows no bytes, no SQL and no tasks.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

from dtm.protocol import messages
from dtm.protocol.messages import ClientMessage
from dtm.server.gate import Place
from dtm.server.hub import Hub
from dtm.server.membership import Membership
from dtm.server.requests import Requests
from dtm.server.roster import Outlet
from dtm.server.translate import Dismissed, Unacceptable, refusal


class Session:
    """What is said on one connection."""

    def __init__(self, hub: Hub, *, place: Place, outlet: Outlet, address: str) -> None:
        self._hub = hub
        self._outlet = outlet
        self._place = place
        self._said_goodbye = False
        self._is_dismissed = False
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
        """Whether the peer has nothing more to say, or is not heard any more."""
        return self._said_goodbye or self._is_dismissed

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
            if self._place.is_stranger:
                self._hub.gate.admit(self._place, is_operator=self._is_operators(message))
            if isinstance(message, messages.Query):
                await self._requests.query(message)
            else:
                self._does[type(message)](message)
        except Unacceptable as error:
            self._is_dismissed = isinstance(error, Dismissed)
            self._outlet.send([refusal(error.code, str(error), message)])

    def _is_operators(self, message: ClientMessage) -> bool:
        return isinstance(message, messages.Admin) and hmac.compare_digest(
            message.secret.encode(), self._hub.secret.encode()
        )

    def _ping(self, message: messages.PingRequest) -> None:
        self._outlet.send([messages.PingResponse(message.timestamp)])

    def _goodbye(self, _: messages.Goodbye) -> None:
        self._said_goodbye = True
