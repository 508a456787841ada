"""The time as the server uses it: one that only goes forward, and a date that no clock change moves."""

from __future__ import annotations

import time

from msgspec import Struct


class Clock(Struct, frozen=True):
    """Liveness is judged by `monotonic_s`; what is written down is dated by `now`."""

    started_at: int
    started_monotonic_s: float

    @classmethod
    def start(cls) -> Clock:
        """Read the wall clock, this once: a jump of it later neither ends a wait early nor makes one longer."""
        return cls(time.time_ns() // 1_000, time.monotonic())

    def monotonic_s(self) -> float:
        """Give seconds since some moment in the past."""
        return time.monotonic()

    def now(self) -> int:
        """Give UTC microseconds."""
        return self.at(time.monotonic())

    def at(self, monotonic_s: float) -> int:
        """Give the UTC microseconds of a monotonic moment."""
        return self.started_at + int((monotonic_s - self.started_monotonic_s) * 1_000_000)
