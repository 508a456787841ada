"""The figures of a run: tables for people, below a heading that says what was measured on, and JSON for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from tabulate import tabulate

from bench.figures import Backlog, Figure, Footprint, Latency, Rate
from bench.machine import Machine

_NOT_MEASURED = "–"
_MIB = 1024 * 1024


class Run(Struct, frozen=True):
    """Everything that one run has found."""

    machine: Machine
    figures: list[Figure]


def write(run: Run, file: Path) -> None:
    """Write a run down as JSON, and its tables beside that."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(run)) + b"\n")
    file.with_suffix(".txt").write_text(f"{heading(run.machine)}\n\n{report(run.figures)}\n", encoding="utf-8")


def heading(machine: Machine) -> str:
    """Name the machine and the versions."""
    load = _NOT_MEASURED if machine.load is None else f"{machine.load:.1f}"
    revision = machine.revision or "no revision"
    return (
        f"{machine.at:%Y-%m-%d %H:%M} UTC, {machine.cpu}, {machine.cores} cores, load {load}, {machine.system}\n"
        f"dtm {machine.dtm} ({revision}), Python {machine.python}, SQLite {machine.sqlite}, {machine.durability};"
        " floor: the same rows and commits by bare SQLite\n"
        f"an fdatasync takes {machine.fdatasync_ms:.2f} ms, after a rest of 1 ms {machine.fdatasync_rested_ms:.2f} ms"
    )


def report(figures: Sequence[Figure]) -> str:
    """Lay figures out, those of a sort in a table."""
    tables = []
    for sort, headers, row in _TABLES:
        rows = [row(figure) for figure in figures if isinstance(figure, sort)]
        if rows:
            tables.append(_table(headers, rows))
    return "\n\n".join(tables)


_RATE_HEADERS = (
    "throughput",
    "tasks",
    "tasks/s",
    "floor/s",
    "of floor",
    "tasks/commit",
    "server µs/task",
    "clients µs/task",
    "server MiB",
)
_LATENCY_HEADERS = ("latency", "tasks", "p50 ms", "p99 ms", "most ms", "floor p50", "floor p99", "of floor")
_BACKLOG_HEADERS = ("backlog", "server MiB", "restart ms", "dtm-admin stats ms", "its query ms")
_FOOTPRINT_HEADERS = ("at rest", "memory KiB", "CPU, of a core")


def _rate_row(rate: Rate) -> tuple[str, ...]:
    return (
        rate.name,
        f"{rate.tasks:,}",
        f"{rate.per_s:,.0f}",
        f"{rate.floor_per_s:,.0f}",
        f"{rate.per_s / rate.floor_per_s:.0%}",
        f"{rate.tasks / rate.commits:,.0f}",
        _whole(rate.server_us_per_task),
        _whole(rate.workers_us_per_task),
        _whole(None if rate.server_peak_bytes is None else rate.server_peak_bytes / _MIB),
    )


def _latency_row(latency: Latency) -> tuple[str, ...]:
    return (
        latency.name,
        f"{latency.tasks:,}",
        f"{latency.p50_ms:.2f}",
        f"{latency.p99_ms:.2f}",
        f"{latency.most_ms:.2f}",
        f"{latency.floor_p50_ms:.2f}",
        f"{latency.floor_p99_ms:.2f}",
        f"{latency.floor_p50_ms / latency.p50_ms:.0%}",
    )


def _footprint_row(footprint: Footprint) -> tuple[str, ...]:
    share = footprint.cpu_share
    return (
        footprint.name,
        f"{footprint.memory_bytes / 1024:,.0f}",
        _NOT_MEASURED if share is None else f"{share:.1%}",
    )


def _backlog_row(backlog: Backlog) -> tuple[str, ...]:
    return (
        backlog.name,
        f"{backlog.memory_bytes / _MIB:,.0f}",
        f"{backlog.restart_ms:,.0f}",
        f"{backlog.stats_ms:,.0f}",
        f"{backlog.query_ms:,.1f}",
    )


_TABLES: tuple[tuple[type[Figure], Sequence[str], Callable[[Any], tuple[str, ...]]], ...] = (
    (Rate, _RATE_HEADERS, _rate_row),
    (Latency, _LATENCY_HEADERS, _latency_row),
    (Footprint, _FOOTPRINT_HEADERS, _footprint_row),
    (Backlog, _BACKLOG_HEADERS, _backlog_row),
)


def _whole(number: float | None) -> str:
    return _NOT_MEASURED if number is None else f"{number:,.0f}"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ("left", *["right"] * (len(headers) - 1))
    return tabulate(rows, headers, colalign=align, disable_numparse=True)
