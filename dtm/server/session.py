"""One client's conversation: each message goes to the part of the connection that it concerns.

Knows no bytes, no SQL and no tasks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dtm.protocol import messages
from dtm.protocol.messages import ClientMessage
from dtm.server.admission import HANDSHAKE, Admission
from dtm.server.gate import Place
from dtm.server.hub import Hub
from dtm.server.membership import Membership
from dtm.server.operator import Operator
from dtm.server.requests import Requests
from dtm.server.roster import Outlet
from dtm.server.translate import Dismissed, Unacceptable, refusal

LOOKS = (messages.Query, messages.Admin)
"""What asks for a look into the store."""


class Session:
    """What is said on one connection."""

    def __init__(self, hub: Hub, *, place: Place, outlet: Outlet, address: str, has_certificate: bool = False) -> None:
        self._hub = hub
        self._outlet = outlet
        self._place = place
        self._said_goodbye = False
        self._is_dismissed = False
        self._admission = Admission(
            hub.access, outlet=outlet, address=address, has_certificate=has_certificate, admit=self._admit
        )
        self._membership = Membership(hub, outlet=outlet, address=address)
        self._requests = Requests(hub, outlet=outlet)
        self._operator = Operator(hub, outlet=outlet)
        self._does: dict[type, Callable[[Any], None]] = {
            messages.Result: self._membership.result,
            messages.Submit: self._requests.submit,
            messages.PingRequest: self._ping,
            messages.Release: self._membership.release,
            messages.Progress: self._membership.progress,
            messages.CancelRequest: self._requests.cancel,
            messages.Register: self._membership.register,
            messages.Capacity: self._membership.capacity,
            messages.Goodbye: self._goodbye,
            messages.Authenticate: self._admission.authenticate,
            messages.Proof: self._admission.prove,
        }
        self._looks: dict[type, Callable[[Any], Awaitable[None]]] = {
            messages.Query: self._requests.query,
            messages.Admin: self._operator.admin,
        }

    @property
    def is_known(self) -> bool:
        """Whether the peer has shown that it may speak here; a server that demands nothing knows everybody."""
        return self._admission.is_known

    @property
    def is_over(self) -> bool:
        """Whether the peer has nothing more to say, or is not heard any more."""
        return self._said_goodbye or self._is_dismissed

    def refuse_stranger(self) -> messages.Error:
        """Give the answer to one who is not known and says what cannot be understood."""
        return self._admission.refuse()

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

    def take(self, message: ClientMessage) -> None:
        """Do what the peer asks for, unless it is one of the `LOOKS`."""
        try:
            self._require(message)
            self._does[type(message)](message)
        except Unacceptable as error:
            self._refuse(error, message)

    async def look(self, message: ClientMessage) -> None:
        """Answer one of the `LOOKS`, which take their time."""
        try:
            self._require(message)
            await self._looks[type(message)](message)
        except Unacceptable as error:
            self._refuse(error, message)

    def _require(self, message: ClientMessage) -> None:
        self._admission.require(message)
        if type(message) not in HANDSHAKE:
            self._admit(is_operator=False)

    def _refuse(self, error: Unacceptable, message: ClientMessage) -> None:
        self._is_dismissed = isinstance(error, Dismissed)
        self._outlet.send([refusal(error.code, str(error), message)])

    def _admit(self, *, is_operator: bool) -> None:
        if self._place.is_stranger:
            self._hub.gate.admit(self._place, is_operator=is_operator)

    def _ping(self, message: messages.PingRequest) -> None:
        self._outlet.send([messages.PingResponse(message.timestamp)])

    def _goodbye(self, _: messages.Goodbye) -> None:
        self._said_goodbye = True
