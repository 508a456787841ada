"""The roster: who may take tasks, who is silent, who may still come back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dtm.core.balance import Seat
from dtm.protocol.messages import Message
from dtm.server.roster import Member, Roster
from dtm.storage.batch import Departure, Why

LOST, SILENT = Why.CONNECTION_LOST, Why.SILENT


class Line:
    """A connection that may be full."""

    def __init__(self) -> None:
        self.is_full = False
        self.is_heard = True

    def flush(self) -> None:
        """Do nothing."""

    def send(self, messages: Sequence[Message]) -> None:
        """Drop them."""

    def cut(self, reason: str) -> None:
        """Do nothing."""


def member(client_id: int, *kinds: str, capacity: int = 2, held: Sequence[int] = ()) -> Member:
    """Make a client."""
    made = Member(client_id, f"client {client_id}", Line(), kinds=frozenset(kinds), capacity=capacity)
    made.held.update(held)
    return made


def roster(*members: Member, now_s: float = 0.0) -> Roster:
    """Gather clients that were all heard at `now_s`."""
    made = Roster()
    for one in members:
        made.join(one, now_s)
    return made


def silent(of: Roster, now_s: float, timeout_s: float = 30) -> list[int]:
    """Say who has been silent."""
    return [one.client_id for one in of.silent(now_s, timeout_s)]


def test_whoever_has_room_is_offered_with_it() -> None:
    """Held and free add up to the capacity; who is full is left out."""
    found = roster(
        member(1, "A", "B", capacity=3, held=[7]),
        member(2, "A", capacity=1, held=[8]),
        member(3, "A", capacity=0),
        member(4, capacity=1),
    ).seats()

    assert found == [Seat(1, frozenset("AB"), held=1, free=2), Seat(4, frozenset(), held=0, free=1)]


def test_a_capacity_below_what_is_held_offers_nothing() -> None:
    """It was lowered meanwhile."""
    one = member(1, "A", capacity=3, held=[7, 8])
    one.capacity = 1

    assert roster(one).seats() == []
    assert one.seat.free == 0


def test_whoever_does_not_read_is_offered_nothing() -> None:
    """What it got would only lie in memory."""
    one = member(1, "A")
    found = roster(one, member(2, "A"))
    assert isinstance(one.outlet, Line)
    one.outlet.is_full = True
    assert [seat.client_id for seat in found.seats()] == [2]

    one.outlet.is_full = False
    assert [seat.client_id for seat in found.seats()] == [1, 2]


def test_a_closed_roster_offers_nobody() -> None:
    """Not even who joins later; what they hold still counts."""
    found = roster(member(1, "A", held=[7]))
    found.close()
    found.join(member(2, "A"), 0)

    assert found.seats() == []
    assert found.holds_anything()


@pytest.mark.parametrize(("now_s", "expected"), [(29.9, []), (30.0, [1]), (31.0, [1]), (41.0, [1, 2])])
def test_silence_counts_from_the_last_word(now_s: float, expected: list[int]) -> None:
    """Exactly the timeout is too long."""
    found = roster(member(1), member(2))
    second = found.find(2)
    assert second is not None
    second.heard_s = 11.0

    assert silent(found, now_s) == expected


def test_whoever_is_not_read_is_not_silent() -> None:
    """A peer that waits for the disk or does not read is not listened to; how long that may last, others decide."""
    one = member(1)
    found = roster(one)
    assert isinstance(one.outlet, Line)
    one.outlet.is_heard = False

    assert silent(found, 99) == []
    one.outlet.is_heard = True
    assert silent(found, 99) == [1]


def test_deafness_of_the_server_is_not_silence() -> None:
    """Nobody could be heard in that time."""
    found = roster(member(1))
    found.forgive(100, 120)

    assert silent(found, 129) == []
    assert silent(found, 130) == [1]


def test_forgiveness_reaches_no_further_than_now() -> None:
    """Whoever was heard since is not given another hundred seconds."""
    found = roster(member(1), now_s=115)
    found.forgive(100, 120)

    assert silent(found, 150) == [1]


def test_whoever_is_away_is_gone_at_the_deadline_and_once() -> None:
    """With the reason it was to have."""
    found = roster(member(1), member(2))
    found.expect_back(1, 5, LOST)
    assert found.find(1) is None
    assert silent(found, 100) == [2]

    assert found.departures(4.9) == []
    assert found.departures(5) == [Departure(1, LOST)]
    assert found.departures(99) == []


def test_deafness_gives_more_time_to_come_back() -> None:
    """Whoever knocked meanwhile was there in time."""
    found = roster()
    found.expect_back(1, 5, LOST)
    found.forgive(10, 12)

    assert found.departures(14.9) == []
    assert found.departures(15) == [Departure(1, LOST)]


def test_whoever_comes_back_is_not_gone() -> None:
    """Its old number is forgotten, wherever it was."""
    old = member(1)
    found = roster(old, member(2))
    assert found.forget(1) is old
    found.expect_back(2, 5, LOST)
    assert found.forget(2) is None
    assert found.forget(3) is None

    assert found.departures(99) == []
    assert list(found.members) == []


def test_dismissal_drops_everybody() -> None:
    """Those who are away too, with the new reason."""
    found = roster(member(1, held=[7]), member(2))
    found.expect_back(2, 5, LOST)

    assert found.dismiss(Why.DRAINED) == [Departure(1, Why.DRAINED), Departure(2, Why.DRAINED)]
    assert found.departures(99) == []
    assert not found.holds_anything()
