"""How fast tasks with larger payloads pass through the whole: submitted, run by two clients, their results awaited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from bench.figures import Rate
from bench.submitter import Order
from bench.texts import Texts
from bench.together import passing
from dtm.cli.input import MOST_BYTES, MOST_TASKS
from dtm.protocol.framing import MAX_VALUE


class Size(Struct, frozen=True):
    """A length of payloads in bytes, and how many tasks then take a few seconds."""

    name: str
    length: int
    most_tasks: int


SIZES = (
    Size("100 B", 100, 100_000),
    Size("10 kB", 10_000, 10_000),
    # The longest that a line of the wire has room for; a full megabyte is refused.
    Size(f"{MAX_VALUE // 1024} KiB", MAX_VALUE, 200),
)


def measure(folder: Path, tasks: int) -> Iterator[Rate]:
    """Run at most `tasks` tasks of each size."""
    for size in SIZES:
        place = folder / size.name
        place.mkdir()
        order = Order(
            tasks=min(tasks, size.most_tasks),
            texts=Texts(size.length),
            follow=True,
            part=max(1, min(MOST_TASKS, MOST_BYTES // size.length)),
        )
        yield passing(f"payloads of {size.name}", place, order)
