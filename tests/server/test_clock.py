"""The clock: one reading of the date, and from then on only forward."""

from __future__ import annotations

import time

from dtm.server.clock import Clock


def test_it_starts_with_the_date() -> None:
    """In UTC microseconds."""
    before = time.time_ns() // 1_000
    now = Clock.start(time.time_ns, time.monotonic).now()

    assert before <= now <= time.time_ns() // 1_000 + 1


def test_moments_are_dated_by_their_distance() -> None:
    """Whatever the wall clock says meanwhile: it is not asked again."""
    clock = Clock(time.monotonic, started_at=1_000_000_000, started_monotonic_s=50.0)

    assert [clock.at(moment_s) for moment_s in (49.0, 50.0, 50.5, 60.0)] == [
        999_000_000,
        1_000_000_000,
        1_000_500_000,
        1_010_000_000,
    ]


def test_it_never_goes_back() -> None:
    """Not even by a microsecond."""
    clock = Clock.start(time.time_ns, time.monotonic)
    moments = [clock.now() for _ in range(1_000)]

    assert moments == sorted(moments)
    assert clock.monotonic_s() <= clock.monotonic_s()
