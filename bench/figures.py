"""What a benchmark says: figures, each beside its floor."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from msgspec import Struct

from bench.process import Usage


class Rate(Struct, frozen=True, kw_only=True, tag="rate"):
    """Tasks a second, dtm's and the floor's, and what they cost; microseconds of CPU, None where not measured."""

    name: str
    tasks: int
    seconds: float
    floor_seconds: float
    commits: int
    server_us_per_task: float | None
    server_peak_bytes: int | None
    workers_us_per_task: float | None = None

    @property
    def per_s(self) -> float:
        """Give dtm's tasks a second."""
        return self.tasks / self.seconds

    @property
    def floor_per_s(self) -> float:
        """Give bare SQLite's tasks a second."""
        return self.tasks / self.floor_seconds


class Latency(Struct, frozen=True, kw_only=True, tag="latency"):
    """Milliseconds that tasks one by one took, dtm's and the floor's."""

    name: str
    tasks: int
    p50_ms: float
    p99_ms: float
    most_ms: float
    floor_p50_ms: float
    floor_p99_ms: float


class Footprint(Struct, frozen=True, kw_only=True, tag="footprint"):
    """What something takes that does nothing: bytes of memory, and the share of a core, None where not measured."""

    name: str
    memory_bytes: float
    cpu_share: float | None = None


class Backlog(Struct, frozen=True, kw_only=True, tag="backlog"):
    """A server with many waiting tasks: its memory, and milliseconds of a restart and of statistics.

    `stats_ms` is the whole program dtm-admin, `query_ms` what it asks the database.
    """

    name: str
    memory_bytes: int
    restart_ms: float
    stats_ms: float
    query_ms: float


Figure = Rate | Latency | Footprint | Backlog


def summary(name: str, took_s: Sequence[float], floor_s: Sequence[float]) -> Latency:
    """Sum up the seconds that tasks took one by one."""
    return Latency(
        name=name,
        tasks=len(took_s),
        p50_ms=percentile(took_s, 50) * 1_000,
        p99_ms=percentile(took_s, 99) * 1_000,
        most_ms=max(took_s) * 1_000,
        floor_p50_ms=percentile(floor_s, 50) * 1_000,
        floor_p99_ms=percentile(floor_s, 99) * 1_000,
    )


def us_per_task(before: Sequence[Usage | None], after: Sequence[Usage | None], tasks: int) -> float | None:
    """Give the microseconds of CPU that each of `tasks` took from all processes between two looks at them."""
    if tasks == 0:
        return None
    spent_s = 0.0
    for earlier, later in zip(before, after, strict=True):
        if earlier is None or later is None:
            return None
        spent_s += later.cpu_s - earlier.cpu_s
    return spent_s / tasks * 1_000_000


def percentile(values: Sequence[float], percent: int) -> float:
    """Give the smallest value that `percent` of all do not exceed (nearest rank)."""
    return sorted(values)[ceil(len(values) * percent / 100) - 1]
