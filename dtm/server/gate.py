"""How many may be connected: a bound, one for those who have not said yet who they are, and places for the operator.

Knows no bytes and no messages. When there are too many strangers the one who has been silent the longest has to go:
whoever says at once who he is gets in, however many others only hold the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dtm.protocol.codec import ErrorCode
from dtm.server.limits import Limits
from dtm.server.translate import Dismissed

OPERATORS_PLACES = 16
"""Connections beyond the limit in which an operator gets in, and nobody else."""


class Place:
    """One connection's place: a stranger's until it is admitted."""

    def __init__(self, turn_away: Callable[[str], None]) -> None:
        self.turn_away = turn_away
        self.is_stranger = True


class Gate:
    """Counts connections, and turns away those that are too many."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # In the order in which they came.
        self._strangers: dict[Place, None] = {}
        self._admitted: set[Place] = set()

    @contextmanager
    def entered(self, turn_away: Callable[[str], None]) -> Iterator[Place]:
        """Give a connection a place for as long as it lasts; `turn_away` is called at most once, with the reason."""
        place = Place(turn_away)
        self._strangers[place] = None
        try:
            self._turn_away_surplus()
            yield place
        finally:
            self._strangers.pop(place, None)
            self._admitted.discard(place)

    def admit(self, place: Place, *, is_operator: bool) -> None:
        """Let in who has said who he is.

        Raises:
            Dismissed: there is no place for him.
        """
        most = self._limits.max_connections
        if len(self._admitted) >= most + OPERATORS_PLACES * is_operator:
            raise Dismissed(
                ErrorCode.TOO_MANY_CONNECTIONS,
                f"this server serves {most:,} connections, and they are taken; come later",
            )
        self._strangers.pop(place, None)
        self._admitted.add(place)
        place.is_stranger = False

    def _turn_away_surplus(self) -> None:
        most = self._limits.max_connections + OPERATORS_PLACES
        while len(self._strangers) > self._limits.max_unauthenticated or (
            len(self._strangers) > OPERATORS_PLACES and len(self._strangers) + len(self._admitted) > most
        ):
            place = next(iter(self._strangers))
            del self._strangers[place]
            place.turn_away("too many connections have not said yet who they are; say so at once, or come later")
