"""dtm's own row: the benchmarks of dtm, with two clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from bench import drain, latency, submit
from bench.figures import Latency, Rate
from bench.machine import Machine
from bench.peers.measure import MOST_ONE_BY_ONE
from bench.peers.rows import Row

F = TypeVar("F", Rate, Latency)

# dtm does a hundred thousand in the time in which others do ten thousand.
SHARE = 10


def measure(name: str, folder: Path, tasks: int, machine: Machine) -> Row:
    """Measure dtm, whose row gets `name`."""
    tasks *= SHARE
    places = [folder / place for place in ("submit", "drain", "latency")]
    for place in places:
        place.mkdir()
    submitted = next(submit.measure(places[0], tasks))
    drained = _named("drain, 2 clients", drain.measure(places[1], tasks))
    took = _named("submit to result", latency.measure(places[2], min(tasks, MOST_ONE_BY_ONE)))
    return Row(
        peer=name,
        version=machine.dtm,
        store=f"SQLite {machine.sqlite}",
        durability=machine.durability,
        equal=True,
        settings="two dtm-client processes with default settings",
        tasks=tasks,
        submit_per_s=submitted.per_s,
        drain_per_s=drained.per_s,
        p50_ms=took.p50_ms,
        p99_ms=took.p99_ms,
    )


def _named(name: str, figures: Iterator[F]) -> F:
    """Give the one figure, and measure none of those after it."""
    return next(figure for figure in figures if figure.name == name)
