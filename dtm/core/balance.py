"""Which client gets which task.

Knows no sockets, no database and no clock; chance comes in as an argument.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct


class Seat(Struct, frozen=True):
    """A client with room: the kinds it runs, the tasks it holds, and how many more it takes."""

    client_id: int
    kinds: frozenset[str]
    held: int
    free: int


class Chance(Protocol):
    """A source of random numbers, such as `random.Random`."""

    def randrange(self, stop: int, /) -> int:
        """Give an integer from 0 to `stop` - 1, each with the same chance."""


class Balance(Protocol):
    """A way to choose among the clients that can run a task and have room for it."""

    def choose(self, kinds: Sequence[str], seats: Sequence[Seat]) -> list[int | None]:
        """Give, for each task's kind in turn, the id of its client; None where no room is left."""


class LeastLoaded:
    """The client whose held tasks are the smallest share of its capacity."""

    def choose(self, kinds: Sequence[str], seats: Sequence[Seat]) -> list[int | None]:
        given = {seat.client_id: 0 for seat in seats}
        heaps = {
            kind: [(_load(seat, 0), seat.client_id, 0, seat) for seat in able] for kind, able in _able(kinds, seats)
        }
        for heap in heaps.values():
            heapq.heapify(heap)
        return [_lightest(heaps[kind], given) for kind in kinds]


class RoundRobin:
    """The clients in turn, whatever the kinds, going on where the last batch ended."""

    def __init__(self) -> None:
        self._last = -1

    def choose(self, kinds: Sequence[str], seats: Sequence[Seat]) -> list[int | None]:
        in_turn = sorted(seats, key=lambda seat: (seat.client_id <= self._last, seat.client_id))
        turns = {seat.client_id: turn for turn, seat in enumerate(in_turn)}
        free = {seat.client_id: seat.free for seat in seats}
        lines = {
            kind: [(turns[seat.client_id], seat.client_id) for seat in able] for kind, able in _able(kinds, in_turn)
        }
        chosen = [_first_in(lines[kind], turns, free, turn) for turn, kind in enumerate(kinds, start=len(seats))]
        self._last = next((client for client in reversed(chosen) if client is not None), self._last)
        return chosen


class Random:
    """Any client, each with the same chance."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def choose(self, kinds: Sequence[str], seats: Sequence[Seat]) -> list[int | None]:
        free = {seat.client_id: seat.free for seat in seats}
        pools = {kind: [seat.client_id for seat in able] for kind, able in _able(kinds, seats)}
        return [self._draw(pools[kind], free) for kind in kinds]

    def _draw(self, pool: list[int], free: dict[int, int]) -> int | None:
        while pool:
            at = self._chance.randrange(len(pool))
            client = pool[at]
            if free[client] > 0:
                free[client] -= 1
                return client
            pool[at] = pool[-1]
            pool.pop()
        return None


def _able(kinds: Iterable[str], seats: Sequence[Seat]) -> Iterable[tuple[str, list[Seat]]]:
    return ((kind, [seat for seat in seats if kind in seat.kinds]) for kind in set(kinds))


def _load(seat: Seat, given: int) -> float:
    return (seat.held + given) / (seat.held + seat.free) if seat.free else 1.0


def _lightest(heap: list[tuple[float, int, int, Seat]], given: dict[int, int]) -> int | None:
    while heap:
        _, client, known, seat = heap[0]
        now = given[client]
        if now >= seat.free:
            heapq.heappop(heap)
        elif now > known:
            # A client stands in one heap for each kind; what another heap gave it shows only here.
            heapq.heapreplace(heap, (_load(seat, now), client, now, seat))
        else:
            given[client] = now + 1
            heapq.heapreplace(heap, (_load(seat, now + 1), client, now + 1, seat))
            return client
    return None


def _first_in(line: list[tuple[int, int]], turns: dict[int, int], free: dict[int, int], turn: int) -> int | None:
    """Serve the first in `line`, a heap, who then waits for `turn`."""
    while line:
        stood_for, client = line[0]
        if free[client] <= 0:
            heapq.heappop(line)
        elif turns[client] > stood_for:
            # A client stands in one line for each kind; that it was served in another shows only here.
            heapq.heapreplace(line, (turns[client], client))
        else:
            free[client] -= 1
            turns[client] = turn
            heapq.heapreplace(line, (turn, client))
            return client
    return None
