"""Dead letters chosen, counted and settled.

Asks nobody and prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from dtm.storage.batch import Clear, Reprocess, Selection

from .clock import Clock
from .gateway import changing, reading, settle
from .place import Place
from .remote import ANSWER_TIMEOUT_S

# So many of the chosen are named, so that a person can see that they are the right ones.
NAMED = 10

# One slice is one transaction: short enough for a live server's other work to go on between two.
SLICE = 1_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """Dead letters as they were counted: `selection` leaves out whatever dies later.

    `tasks` are the newest of them, `not_found` the ids asked for that are none of them.
    """

    selection: Selection
    count: int
    tasks: list[int]
    not_found: list[int]


def choose(place: Place, selection: Selection) -> Chosen:
    """Count what `selection` means now, and bind it to that."""
    ids = selection.ids or ()
    with reading(place) as reader:
        count, newest = reader.count_dead_letters(selection)
        bound = replace(selection, through=newest)
        tasks = reader.dead_tasks(bound, limit=max(len(ids), NAMED))
    missing = set(ids) - set(tasks)
    return Chosen(bound, count, tasks[:NAMED], [id for id in ids if id in missing])


def carry_out(
    place: Place,
    command: type[Reprocess | Clear],
    chosen: Chosen,
    *,
    clock: Clock,
    timeout_s: float = ANSWER_TIMEOUT_S,
    slice_size: int = SLICE,
) -> Iterator[int]:
    """Settle what was chosen, and tell after each slice how many letters it settled."""
    with changing(place, clock=clock, timeout_s=timeout_s) as way:
        yield from settle(way, command, chosen.selection, slice_size=slice_size)
