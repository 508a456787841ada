"""Words for people, cut to where they stand."""

from __future__ import annotations

from collections.abc import Sequence

from dtm.core.escapes import escaped

SHORT = 60


def shortened(text: str | None, most: int = SHORT) -> str:
    """Escape `text`, and cut it where a cell ends; `-` if there is none."""
    if text is None:
        return "-"
    cell = escaped(text[: most + 1])
    return cell if len(cell) <= most else f"{cell[: most - 1]}…"


def indented(text: str) -> str:
    """Escape `text` but keep its lines, each set in by two blanks."""
    return "\n".join(f"  {escaped(line)}".rstrip() for line in text.rstrip("\n").split("\n"))


def counted(number: int, noun: str) -> str:
    """Write a number of things: `1 dead letter`, `1,200 dead letters`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def mebibytes(size: int) -> str:
    """Write a number of bytes for people."""
    return f"{size / 2**20:,.1f} MiB"


def some(numbers: Sequence[int], *, most: int, total: int | None = None) -> str:
    """List the first numbers, and say how many more there are: of `total`, if these are not all."""
    shown = numbers[:most]
    rest = (len(numbers) if total is None else total) - len(shown)
    listed = ", ".join(map(str, shown))
    return f"{listed} and {rest:,} more" if rest else listed
