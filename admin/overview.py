"""A store at one moment: its figures, and who holds it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dtm.cli.options import Address
from dtm.core.lifecycle import State
from dtm.storage.statistics import Statistics, statistics

from .approach import address_of
from .gateway import live_server, reading
from .lookout import Lookout
from .place import Place

STATES = tuple(state for state in State if state is not State.CLEARED)
"""The states in which a task is there to be counted, in the order of its life."""


@dataclass(frozen=True, slots=True)
class Running:
    """A live server; from afar nobody can see the number of its process."""

    address: Address
    pid: int | None


@dataclass(frozen=True, slots=True)
class Overview:
    """What there is to know at a glance; `server` is the one that holds the store now, if one does."""

    place: Place
    server: Running | None
    figures: Statistics

    @property
    def by_kind(self) -> dict[str, Counter[str]]:
        """How many tasks of each kind are in each state."""
        kinds: dict[str, Counter[str]] = {}
        for count in self.figures.counts:
            kinds.setdefault(count.kind, Counter())[count.state] = count.tasks
        return kinds

    @property
    def totals(self) -> Counter[str]:
        """How many tasks of all kinds are in each state."""
        return sum(self.by_kind.values(), Counter())


def read(place: Place, now: int) -> Overview:
    """Read the figures of the store at `place` at the instant `now`, from afar at the server's."""
    with reading(place) as reader:
        figures = reader.statistics() if isinstance(reader, Lookout) else statistics(reader, now)
        return Overview(place, _server(place), figures)


def _server(place: Place) -> Running | None:
    if not isinstance(place, Path):
        return Running(place.address, None)
    holder = live_server(place)
    return None if holder is None else Running(address_of(holder), holder.pid)
