"""The table for people: dtm first, then its peers, and how many times as fast dtm is."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from bench.machine import Machine
from bench.peers.rows import Missing, Row, fastest_equal

_HEADERS = (
    "",
    "version",
    "on",
    "durability",
    "tasks",
    "submit/s",
    "dtm ×",
    "drain/s",
    "dtm ×",
    "p50 ms",
    "p99 ms",
    "peer/dtm",
)
_ALIGN = (*["left"] * 4, *["right"] * (len(_HEADERS) - 4))


def heading(machine: Machine) -> str:
    """Name the machine."""
    load = "" if machine.load is None else f" load {machine.load:.1f},"
    return (
        f"{machine.at:%Y-%m-%d %H:%M} UTC, {machine.cpu}, {machine.cores} cores,{load} {machine.system},"
        f" Python {machine.python}"
    )


def report(own: Row, peers: Sequence[Row | Missing], again: Row) -> str:
    """Lay the rows out, and sum them up; `again` is dtm after all others, which tells how steady the machine was."""
    rows = [peer for peer in peers if isinstance(peer, Row)]
    missing = [peer for peer in peers if isinstance(peer, Missing)]
    table = tabulate(
        [_cells(row, own) for row in (own, *rows, again)],
        _HEADERS,
        colalign=_ALIGN,
        disable_numparse=True,
        tablefmt="github",
    )
    return "\n\n".join([table, _verdict(own, rows), *map(_lament, missing)])


def _cells(row: Row, own: Row) -> tuple[str, ...]:
    return (
        row.peer,
        row.version,
        row.store,
        row.durability if row.equal else f"{row.durability} (weaker)",
        f"{row.tasks:,}",
        f"{row.submit_per_s:,.0f}",
        f"{own.submit_per_s / row.submit_per_s:.1f}",
        f"{row.drain_per_s:,.0f}",
        f"{own.drain_per_s / row.drain_per_s:.1f}",
        f"{row.p50_ms:.2f}",
        f"{row.p99_ms:.2f}",
        f"{row.p50_ms / own.p50_ms:.2f}",
    )


def _verdict(own: Row, rows: Sequence[Row]) -> str:
    said = f"dtm drains {own.drain_per_s:,.0f} tasks/s"
    if (best := fastest_equal(rows)) is None:
        return f"{said}; no peer of equal durability was measured"
    times = own.drain_per_s / best.drain_per_s
    return f"{said}: {times:.1f} times the fastest peer of equal durability, {best.peer} on {best.store}"


def _lament(missing: Missing) -> str:
    return f"FAILED {missing.peer}, {missing.durability}: {missing.reason}"
