"""Dead letters and tasks chosen, counted and settled.

Asks nobody and prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic

from msgspec.structs import replace

from dtm.storage.batch import Command, Selection, TaskSelection

from .clock import Clock
from .gateway import changing, reading, settle
from .place import Place
from .remote import ANSWER_TIMEOUT_S
from .selecting import AnySelection

# So many of the chosen are named, so that a person can see that they are the right ones.
NAMED = 10

# One slice is one transaction: short enough for a live server's other work to go on between two.
SLICE = 1_000


@dataclass(frozen=True, slots=True)
class Chosen(Generic[AnySelection]):
    """What was meant, as it was counted: `selection` leaves out whatever dies or comes later.

    `tasks` are the newest of them, `not_found` the ids asked for that are none of them.
    """

    selection: AnySelection
    count: int
    tasks: list[int]
    not_found: list[int]


def choose(place: Place, selection: Selection) -> Chosen[Selection]:
    """Count the dead letters that `selection` means now, and bind it to them."""
    with reading(place) as reader:
        count, newest = reader.count_dead_letters(selection)
        bound = replace(selection, through=newest)
        return _chosen(bound, count, reader.dead_tasks(bound, limit=_most(selection)))


def choose_active(place: Place, selection: TaskSelection) -> Chosen[TaskSelection]:
    """Count the tasks that `selection` means now and that could be cancelled, and bind it to them."""
    with reading(place) as reader:
        count, newest = reader.count_active(selection)
        bound = replace(selection, through=newest)
        return _chosen(bound, count, reader.active_tasks(bound, limit=_most(selection)))


def _most(selection: AnySelection) -> int:
    return max(len(selection.ids or ()), NAMED)


def _chosen(selection: AnySelection, count: int, tasks: list[int]) -> Chosen[AnySelection]:
    ids = selection.ids or ()
    missing = set(ids) - set(tasks)
    return Chosen(selection, count, tasks[:NAMED], [id for id in ids if id in missing])


def carry_out(
    place: Place,
    command: Callable[[AnySelection, int], Command],
    chosen: Chosen[AnySelection],
    *,
    clock: Clock,
    timeout_s: float = ANSWER_TIMEOUT_S,
    slice_size: int = SLICE,
) -> Iterator[int]:
    """Settle what was chosen, and tell after each slice how many it settled."""
    with changing(place, clock=clock, timeout_s=timeout_s) as way:
        yield from settle(way, command, chosen.selection, slice_size=slice_size)
