"""A figure that has fallen is found, whichever way its numbers point, and noise of single rounds is not."""

from __future__ import annotations

import pytest

from bench.comparison import compare, only_in_one
from bench.figures import Backlog, Figure, Footprint, Latency, Rate

ALLOWED = 0.2


def rate(per_s: float, name: str = "drain") -> Rate:
    """Give a rate of so many tasks a second."""
    return Rate(
        name=name,
        tasks=1_000,
        seconds=1_000 / per_s,
        floor_seconds=0.1,
        commits=1,
        server_us_per_task=None,
        server_peak_bytes=None,
    )


def latency(p50_ms: float) -> Latency:
    """Give a latency with this median."""
    return Latency(name="pick-up", tasks=9, p50_ms=p50_ms, p99_ms=9, most_ms=9, floor_p50_ms=1, floor_p99_ms=1)


def backlog(mebibytes: int, restart_ms: float, query_ms: float) -> Backlog:
    """Give a backlog's figures."""
    return Backlog(name="waiting", memory_bytes=mebibytes << 20, restart_ms=restart_ms, stats_ms=9, query_ms=query_ms)


@pytest.mark.parametrize(
    ("before", "after", "fallen"),
    [
        (rate(100), rate(79), ["tasks/s"]),
        (rate(100), rate(81), []),
        (rate(100), rate(300), []),
        (latency(1.0), latency(1.3), ["p50 ms"]),
        (latency(1.0), latency(1.2), []),
        (latency(1.0), latency(0.2), []),
        (Footprint(name="idle", memory_bytes=100), Footprint(name="idle", memory_bytes=130), ["KiB"]),
        (backlog(100, 100, 2), backlog(130, 130, 2), ["MiB", "restart ms"]),
        (backlog(100, 100, 2), backlog(90, 100, 2.6), ["query ms"]),
    ],
)
def test_what_is_worse_by_more_than_allowed_has_fallen(before: Figure, after: Figure, fallen: list[str]) -> None:
    """Fewer tasks a second, or more milliseconds or bytes, beyond the allowed part, and nothing else."""
    changes = compare([[before]], [[after]])

    assert [change.unit for change in changes if change.has_fallen(ALLOWED)] == fallen


def test_the_best_round_counts() -> None:
    """A round that something else disturbed says nothing of the revision, be it before or after."""
    before: list[list[Figure]] = [[rate(100), latency(4)], [rate(40), latency(1)]]
    after: list[list[Figure]] = [[rate(30), latency(1.1)], [rate(95), latency(9)]]

    throughput, delay = compare(before, after)

    assert (throughput.before, throughput.after, throughput.ratio) == pytest.approx((100, 95, 0.95))
    assert (delay.before, delay.after, delay.ratio) == pytest.approx((1, 1.1, 1 / 1.1))


def test_only_what_both_have_is_compared() -> None:
    """A figure that is new or gone is named, and is no verdict."""
    before, after = [[rate(100, "drain"), rate(100, "gone")]], [[rate(100, "new"), rate(100, "drain")]]

    assert [change.name for change in compare(before, after)] == ["drain"]
    assert only_in_one(before, after) == ["gone", "new"]
