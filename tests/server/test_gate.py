"""Who gets in when there are too many: whoever speaks, and the operator always."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from dtm.protocol.codec import ErrorCode
from dtm.server.gate import OPERATORS_PLACES, Gate, Place
from dtm.server.limits import Limits
from dtm.server.translate import Dismissed


class Crowd:
    """Those who came through one gate, and who of them was sent away."""

    def __init__(self, **limits: int) -> None:
        self.gate = Gate(Limits(**limits))
        self.stack = ExitStack()
        self.sent_away: list[int] = []
        self._came = 0

    def come(self) -> Place:
        """Let another one come."""
        number, self._came = self._came, self._came + 1
        return self.stack.enter_context(self.gate.entered(lambda _: self.sent_away.append(number)))

    def admits(self, place: Place, *, is_operator: bool = False) -> bool:
        """Say whether he is let in."""
        try:
            self.gate.admit(place, is_operator=is_operator)
        except Dismissed as refusal:
            return refusal.code is not ErrorCode.TOO_MANY_CONNECTIONS
        return True


def test_of_too_many_strangers_the_oldest_has_to_go() -> None:
    """The newest is the likeliest to say who he is."""
    crowd = Crowd(max_unauthenticated=2)
    with crowd.stack:
        first = crowd.come()
        assert crowd.admits(first)
        for _ in range(4):
            crowd.come()

        assert crowd.sent_away == [1, 2]
        assert not first.is_stranger


def test_the_limit_counts_those_who_are_in() -> None:
    """Who leaves makes room."""
    crowd = Crowd(max_connections=1)
    with crowd.stack:
        with crowd.gate.entered(pytest.fail) as first:
            assert crowd.admits(first)
            assert not crowd.admits(crowd.come())
        second = crowd.come()

        assert crowd.admits(second)


def test_beyond_the_limit_an_operator_gets_in_and_nobody_else() -> None:
    """Even so his places have an end."""
    crowd = Crowd(max_connections=1)
    with crowd.stack:
        assert crowd.admits(crowd.come())
        assert not crowd.admits(crowd.come())
        for _ in range(OPERATORS_PLACES):
            assert crowd.admits(crowd.come(), is_operator=True)

        assert not crowd.admits(crowd.come(), is_operator=True)


def test_when_all_places_are_taken_few_may_wait_to_speak() -> None:
    """One of them may be the operator; the others cost no more than that."""
    crowd = Crowd(max_connections=1, max_unauthenticated=500)
    with crowd.stack:
        assert crowd.admits(crowd.come())
        waiting = [crowd.come() for _ in range(OPERATORS_PLACES + 5)]

        assert crowd.sent_away == [1, 2, 3, 4, 5]
        assert crowd.admits(waiting[-1], is_operator=True)
