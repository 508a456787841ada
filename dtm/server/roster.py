"""Who is here, what each holds, and who has been silent or away for too long.

Knows no sockets, no database and no clock: time comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from dtm.core.balance import Seat
from dtm.protocol.messages import Message
from dtm.storage.batch import Departure, Why


class Outlet(Protocol):
    """Where messages for one connection go."""

    @property
    def is_full(self) -> bool:
        """Whether the peer is behind with reading."""

    @property
    def is_heard(self) -> bool:
        """Whether the peer is listened to now, so that silence says something."""

    def flush(self) -> None:
        """Write what is queued now, before others do: somebody waits for it to go on."""

    def send(self, messages: Sequence[Message]) -> None:
        """Queue `messages`; returns at once."""

    def cut(self, reason: str) -> None:
        """Close the connection now."""


class Member:
    """One connected client."""

    def __init__(self, client_id: int, name: str, outlet: Outlet, *, kinds: frozenset[str], capacity: int) -> None:
        self.client_id = client_id
        self.name = name
        self.outlet = outlet
        self.kinds = kinds
        self.capacity = capacity
        self.held: set[int] = set()
        self.heard_s = 0.0

    @property
    def seat(self) -> Seat:
        """What it can take now."""
        held = len(self.held)
        return Seat(self.client_id, self.kinds, held, max(0, self.capacity - held))


class Roster:
    """All clients: those connected, and those that may still come back."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self._away: dict[int, tuple[float, Why]] = {}
        self._is_closed = False

    @property
    def members(self) -> Iterable[Member]:
        """The connected clients."""
        return self._members.values()

    def find(self, client_id: int) -> Member | None:
        """Give the connected client of that number."""
        return self._members.get(client_id)

    def join(self, member: Member, now_s: float) -> None:
        """Note that a client is here."""
        member.heard_s = now_s
        self._members[member.client_id] = member

    def forget(self, client_id: int) -> Member | None:
        """Drop a client, wherever it is, and give it if it was connected."""
        self._away.pop(client_id, None)
        return self._members.pop(client_id, None)

    def expect_back(self, client_id: int, deadline_s: float, why: Why) -> None:
        """Note that a client is not connected: at `deadline_s` it is gone, and `why`."""
        self._members.pop(client_id, None)
        self._away[client_id] = (deadline_s, why)

    def close(self) -> None:
        """From now on nobody takes tasks."""
        self._is_closed = True

    def seats(self) -> list[Seat]:
        """List who can take tasks, and how many."""
        if self._is_closed:
            return []
        return [
            member.seat
            for member in self._members.values()
            if len(member.held) < member.capacity and not member.outlet.is_full
        ]

    def holds_anything(self) -> bool:
        """Whether a connected client still works on something."""
        return any(member.held for member in self._members.values())

    def departures(self, now_s: float) -> list[Departure]:
        """List those whose time to come back is over, and drop them."""
        gone = [Departure(id, why) for id, (deadline_s, why) in self._away.items() if deadline_s <= now_s]
        for departure in gone:
            del self._away[departure.client_id]
        return gone

    def silent(self, now_s: float, timeout_s: float) -> list[Member]:
        """List the connected clients that have not been heard for `timeout_s`, although they were listened to."""
        return [
            member
            for member in self._members.values()
            if now_s - member.heard_s >= timeout_s and member.outlet.is_heard
        ]

    def forgive(self, deaf_s: float, now_s: float) -> None:
        """Do not count against anybody the last `deaf_s` seconds, in which the server could hear nobody."""
        for member in self._members.values():
            # Whoever was heard since then starts from now; more would hide a death for as long as the deafness was.
            member.heard_s = min(member.heard_s + deaf_s, now_s)
        self._away = {id: (deadline_s + deaf_s, why) for id, (deadline_s, why) in self._away.items()}

    def dismiss(self, why: Why) -> list[Departure]:
        """Drop everybody."""
        everybody = [*self._members, *self._away]
        self._members, self._away = {}, {}
        return [Departure(id, why) for id in everybody]
