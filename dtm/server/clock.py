"""The time as the server uses it: one that only goes forward, and a date that no clock change moves."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class Clock(Struct, frozen=True):
    """Liveness is judged by `monotonic_s`; what is written down is dated by `now`."""

    monotonic_s: Callable[[], float]
    """Gives seconds since some moment in the past."""
    started_at: int
    started_monotonic_s: float

    @classmethod
    def start(cls, wall_ns: Callable[[], int], monotonic_s: Callable[[], float]) -> Clock:
        """Read the wall clock, this once: a jump of it later neither ends a wait early nor makes one longer."""
        return cls(monotonic_s, wall_ns() // 1_000, monotonic_s())

    def now(self) -> int:
        """Give UTC microseconds."""
        return self.at(self.monotonic_s())

    def at(self, monotonic_s: float) -> int:
        """Give the UTC microseconds of a monotonic moment."""
        return self.started_at + int((monotonic_s - self.started_monotonic_s) * 1_000_000)
