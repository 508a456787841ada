"""Tables for people. Whoever fills one escapes what clients wrote."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[str] = ()) -> str:
    """Lay out `rows` of escaped cells under `headers`; the columns named in `numbers` are set to the right."""
    sides = ["right" if header in numbers else "left" for header in headers]
    return tabulate(
        rows,
        [header.upper() for header in headers],
        tablefmt="plain",
        disable_numparse=True,  # else the kind `1e5` would be shown as 100000
        colalign=sides,
    )


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """Lay out names and values, a line each."""
    return tabulate([(f"{name}:", value) for name, value in pairs], tablefmt="plain", disable_numparse=True)
