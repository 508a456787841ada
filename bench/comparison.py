"""Which figures of two revisions differ, and which have fallen by more than is allowed.

Knows nothing of how they were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from bench.figures import Backlog, Figure, Footprint, Latency, Rate


class _Value(Struct, frozen=True):
    """One number of a figure that says how good it is."""

    unit: str
    of: Callable[[Any], float]
    more_is_better: bool = False


# The far percentiles and the CPU of a short run differ by more than is allowed from run to run, so they are no verdict.
_VALUES: dict[type[Figure], Sequence[_Value]] = {
    Rate: [_Value("tasks/s", lambda rate: rate.per_s, more_is_better=True)],
    Latency: [_Value("p50 ms", lambda latency: latency.p50_ms)],
    Footprint: [_Value("KiB", lambda footprint: footprint.memory_bytes / 1024)],
    Backlog: [
        _Value("MiB", lambda backlog: backlog.memory_bytes / 1024**2),
        _Value("restart ms", lambda backlog: backlog.restart_ms),
        _Value("query ms", lambda backlog: backlog.query_ms),
    ],
}

Runs = Sequence[Sequence[Figure]]
"""The figures of each round."""


class Change(Struct, frozen=True):
    """A number of both revisions, the best of all rounds; `ratio` above 1 is better than before."""

    name: str
    unit: str
    before: float
    after: float
    ratio: float

    def has_fallen(self, allowed: float) -> bool:
        """Whether it is worse by more than this part."""
        return self.ratio < 1 - allowed


def compare(before: Runs, after: Runs) -> list[Change]:
    """Compare what both have, in the order of `before`.

    Of the rounds the best counts: whatever else the machine does makes a figure worse, never better.
    """
    old, new = dict(_best(before)), dict(_best(after))
    return [_change(name, value, old[name, value], new[name, value]) for name, value in old if (name, value) in new]


def only_in_one(before: Runs, after: Runs) -> list[str]:
    """Name the figures that only one of them has."""
    old, new = ({figure.name for figures in runs for figure in figures} for runs in (before, after))
    return sorted(old ^ new)


def _best(runs: Runs) -> Iterator[tuple[tuple[str, _Value], float]]:
    found: dict[tuple[str, _Value], list[float]] = {}
    for figure in (figure for figures in runs for figure in figures):
        for value in _VALUES[type(figure)]:
            found.setdefault((figure.name, value), []).append(value.of(figure))
    for key, numbers in found.items():
        yield key, max(numbers) if key[1].more_is_better else min(numbers)


def _change(name: str, value: _Value, before: float, after: float) -> Change:
    ratio = after / before if value.more_is_better else before / after
    return Change(name, value.unit, before, after, ratio)
