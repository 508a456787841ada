"""How fast tasks come in one by one: each waits until the disk has it before the next one is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.figures import Rate
from bench.submit import submitting
from bench.submitter import Order

# How many wait at once, and how many tasks then take a few seconds.
MOST_TASKS = {1: 5_000, 8: 20_000, 64: 40_000}


def measure(folder: Path, tasks: int) -> Iterator[Rate]:
    """Submit tasks one by one, then 8 and 64 at once on one connection."""
    for at_once, most in MOST_TASKS.items():
        place = folder / str(at_once)
        place.mkdir()
        yield submitting(
            f"submit one by one, {at_once} at once", place, Order(tasks=min(tasks, most), part=1, at_once=at_once)
        )
