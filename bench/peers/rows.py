"""What was found of each peer, or why nothing was, beside dtm."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Row(Struct, frozen=True, kw_only=True, tag="measured"):
    """A peer's figures; whether its durability equals dtm's: nothing is answered before the disk has it."""

    peer: str
    version: str
    store: str
    durability: str
    equal: bool
    settings: str
    tasks: int
    submit_per_s: float
    drain_per_s: float
    p50_ms: float
    p99_ms: float


class Missing(Struct, frozen=True, tag="failed"):
    """A peer that could not be measured."""

    peer: str
    durability: str
    reason: str


def fastest_equal(rows: Sequence[Row]) -> Row | None:
    """Give the peer that drains fastest among those as durable as dtm."""
    return max((row for row in rows if row.equal), key=lambda row: row.drain_per_s, default=None)
