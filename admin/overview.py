"""A store at one moment: its figures, and who holds it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dtm.core.lifecycle import State
from dtm.storage.lock import Holder
from dtm.storage.statistics import Statistics, statistics

from .gateway import live_server, reading

STATES = tuple(state for state in State if state is not State.CLEARED)
"""The states in which a task is there to be counted, in the order of its life."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What there is to know at a glance; `server` is the one that holds the store now, if one does."""

    db: Path
    server: Holder | None
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


def read(db: Path, now: int) -> Overview:
    """Read the figures of the store at `db` at the instant `now`."""
    with reading(db) as reader:
        return Overview(db, live_server(db), statistics(reader, now))
