"""Who gets which task: what holds for every strategy, and what each of them promises."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtm.core.balance import Balance, LeastLoaded, Random, RoundRobin, Seat

KINDS = ["add", "mul", "fib"]
STRATEGIES: dict[str, Callable[[], Balance]] = {
    "least loaded": LeastLoaded,
    "round robin": RoundRobin,
    "random": lambda: Random(random.Random(7)),
}

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())


def seat(client_id: int, *kinds: str, held: int = 0, free: int = 1) -> Seat:
    """A client with room."""
    return Seat(client_id, frozenset(kinds or KINDS), held, free)


@st.composite
def rooms(draw: st.DrawFn) -> list[Seat]:
    """Any clients, in any order."""
    ids = draw(st.lists(st.integers(1, 50), unique=True, max_size=6))
    return [
        Seat(id, frozenset(draw(st.sets(st.sampled_from(KINDS)))), draw(st.integers(0, 4)), draw(st.integers(0, 4)))
        for id in ids
    ]


queues = st.lists(st.sampled_from(KINDS), max_size=20)


@every_strategy
@given(queues, rooms())
def test_nobody_gets_more_than_it_has_room_for(
    strategy: Callable[[], Balance], kinds: list[str], seats: list[Seat]
) -> None:
    """The free places are never exceeded, not even by one."""
    given_out = Counter(client for client in strategy().choose(kinds, seats) if client is not None)

    assert all(given_out[seat.client_id] <= seat.free for seat in seats)


@every_strategy
@given(queues, rooms())
def test_nobody_gets_a_kind_that_it_does_not_run(
    strategy: Callable[[], Balance], kinds: list[str], seats: list[Seat]
) -> None:
    """Each task goes to one of the clients that named its kind."""
    runs = {seat.client_id: seat.kinds for seat in seats}
    chosen = strategy().choose(kinds, seats)

    assert all(kind in runs[client] for kind, client in zip(kinds, chosen, strict=True) if client is not None)


@every_strategy
@given(queues, rooms())
def test_a_task_waits_only_if_all_its_clients_are_full(
    strategy: Callable[[], Balance], kinds: list[str], seats: list[Seat]
) -> None:
    """`None` says that at this point of the batch there was no room left for that kind."""
    free = {seat.client_id: seat.free for seat in seats}
    for kind, client in zip(kinds, strategy().choose(kinds, seats), strict=True):
        if client is None:
            assert all(free[seat.client_id] == 0 for seat in seats if kind in seat.kinds)
        else:
            free[client] -= 1


@every_strategy
def test_a_kind_that_nobody_runs_waits(strategy: Callable[[], Balance]) -> None:
    """It does not stand in the way of what comes behind it."""
    assert strategy().choose(["fib", "add"], [seat(1, "add")]) == [None, 1]


@every_strategy
@pytest.mark.parametrize("seats", [[], [seat(1, free=0)], [seat(1, held=3, free=0)]], ids=["nobody", "closed", "full"])
def test_where_there_is_no_room_everything_waits(strategy: Callable[[], Balance], seats: list[Seat]) -> None:
    """Nobody there, nobody who takes any, nobody who takes more."""
    assert strategy().choose(["add", "mul"], seats) == [None, None]


@every_strategy
def test_no_task_needs_nobody(strategy: Callable[[], Balance]) -> None:
    """An empty batch has an empty answer."""
    assert strategy().choose([], [seat(1)]) == []


# --- least loaded ----------------------------------------------------------------------------------------------


def _by_the_book(kinds: Sequence[str], seats: Sequence[Seat]) -> list[int | None]:
    """The rule of `LeastLoaded` as one would say it, in exact fractions and slow."""
    given_out: Counter[int] = Counter()

    def load(seat: Seat) -> tuple[Fraction, int]:
        return Fraction(seat.held + given_out[seat.client_id], seat.held + seat.free), seat.client_id

    chosen: list[int | None] = []
    for kind in kinds:
        able = [seat for seat in seats if kind in seat.kinds and given_out[seat.client_id] < seat.free]
        lightest = min(able, key=load).client_id if able else None
        chosen.append(lightest)
        given_out[lightest or 0] += 1
    return chosen


@given(queues, rooms())
def test_least_loaded_follows_its_rule_to_the_letter(kinds: list[str], seats: list[Seat]) -> None:
    """Each task goes to the smallest share of its capacity at that moment, whatever heap the others came from."""
    assert LeastLoaded().choose(kinds, seats) == _by_the_book(kinds, seats)


def test_least_loaded_goes_by_the_share_of_the_capacity() -> None:
    """Four clients in five to one in two: the large one is the busier only once its share is larger."""
    seats = [seat(1, held=4, free=6), seat(2, held=1, free=1)]

    assert LeastLoaded().choose(["add"] * 3, seats) == [1, 1, 2]


def test_least_loaded_fills_all_to_the_same_share() -> None:
    """A client of ten times the capacity ends up with ten times the tasks."""
    chosen = Counter(LeastLoaded().choose(["add"] * 55, [seat(1, free=100), seat(2, free=10)]))

    assert chosen == {1: 50, 2: 5}


# --- round robin -----------------------------------------------------------------------------------------------


def test_round_robin_goes_on_where_the_last_batch_ended() -> None:
    """Batches are the disk's affair; the turns go through them."""
    balance, seats = RoundRobin(), [seat(id, free=9) for id in (1, 2, 3)]
    batches = [balance.choose(["add"] * count, seats) for count in (2, 2, 1, 4)]

    assert batches == [[1, 2], [3, 1], [2], [3, 1, 2, 3]]


def test_round_robin_goes_on_behind_a_client_that_left() -> None:
    """The turn is not lost with the one who had it."""
    balance = RoundRobin()
    balance.choose(["add"] * 2, [seat(1), seat(2), seat(3)])

    assert balance.choose(["add"], [seat(1), seat(3)]) == [3]


def test_round_robin_keeps_its_turn_through_a_batch_that_nobody_could_take() -> None:
    """Nothing given, nothing moved."""
    balance = RoundRobin()
    balance.choose(["add"], [seat(1), seat(2)])
    balance.choose(["add"], [])

    assert balance.choose(["add"], [seat(1), seat(2)]) == [2]


def test_round_robin_does_not_mind_the_load() -> None:
    """A client that holds much has its turn as long as it has room."""
    assert RoundRobin().choose(["add"] * 3, [seat(1, held=90, free=9), seat(2, free=9)]) == [1, 2, 1]


def test_round_robin_passes_over_the_full() -> None:
    """The others go on taking turns."""
    assert RoundRobin().choose(["add"] * 5, [seat(1, free=1), seat(2, free=3), seat(3, free=2)]) == [1, 2, 3, 2, 3]


def test_round_robin_has_one_turn_for_all_kinds() -> None:
    """Tasks of different kinds do not all go to the client whose turn it is."""
    assert RoundRobin().choose(["add", "mul", "fib"], [seat(1, free=9), seat(2, free=9), seat(3, free=9)]) == [1, 2, 3]


def _in_turn(kinds: Sequence[str], seats: Sequence[Seat]) -> list[int | None]:
    """The rule of `RoundRobin` as one would say it: whoever is served stands at the end of the line."""
    free = {seat.client_id: seat.free for seat in seats}
    line = sorted(seats, key=lambda seat: seat.client_id)
    chosen: list[int | None] = []
    for kind in kinds:
        served = next((seat for seat in line if kind in seat.kinds and free[seat.client_id] > 0), None)
        if served is not None:
            line.remove(served)
            line.append(served)
            free[served.client_id] -= 1
        chosen.append(None if served is None else served.client_id)
    return chosen


@given(queues, rooms())
def test_round_robin_follows_its_rule_to_the_letter(kinds: list[str], seats: list[Seat]) -> None:
    """Whoever waits longest is served first, whatever it was served with."""
    assert RoundRobin().choose(kinds, seats) == _in_turn(kinds, seats)


# --- random ----------------------------------------------------------------------------------------------------


@given(queues, rooms(), st.integers())
def test_random_is_reproducible(kinds: list[str], seats: list[Seat], seed: int) -> None:
    """The same chance makes the same choice: nothing else is drawn from."""
    one, other = Random(random.Random(seed)), Random(random.Random(seed))

    assert [one.choose(kinds, seats) for _ in range(3)] == [other.choose(kinds, seats) for _ in range(3)]


class Path:
    """A chance that follows a given path of draws, and the first way at each fork beyond its end."""

    def __init__(self, path: Sequence[int]) -> None:
        self.taken: list[int] = []
        self.ways: list[int] = []
        self._path = path

    def randrange(self, stop: int, /) -> int:
        """Draw."""
        step = len(self.taken)
        self.ways.append(stop)
        self.taken.append(self._path[step] if step < len(self._path) else 0)
        return self.taken[-1]


def _distribution(kinds: Sequence[str], seats: Sequence[Seat]) -> dict[tuple[int | None, ...], Fraction]:
    """Walk every path of draws, and add up how likely each answer is."""
    likely: dict[tuple[int | None, ...], Fraction] = {}
    open_paths: list[list[int]] = [[]]
    while open_paths:
        path = Path(start := open_paths.pop())
        answer = tuple(Random(path).choose(kinds, seats))
        weight = Fraction(1)
        for stop in path.ways:
            weight /= stop
        likely[answer] = likely.get(answer, Fraction(0)) + weight
        for fork in range(len(start), len(path.taken)):
            open_paths += [[*path.taken[:fork], way] for way in range(1, path.ways[fork])]
    return likely


def test_random_gives_each_client_with_room_the_same_chance() -> None:
    """Neither the full ones nor the order tilt the draw."""
    seats = [seat(1, free=0), seat(2, free=5), seat(3, "mul", free=5), seat(4, free=1), seat(5, free=2)]

    assert _distribution(["add"], seats) == {(id,): Fraction(1, 3) for id in (2, 4, 5)}


def test_random_draws_anew_for_each_task() -> None:
    """A client that the first task filled is out of the second draw, and only then."""
    assert _distribution(["add", "mul"], [seat(1, free=1), seat(2, free=2)]) == {
        (1, 2): Fraction(1, 2),
        (2, 1): Fraction(1, 4),
        (2, 2): Fraction(1, 4),
    }
