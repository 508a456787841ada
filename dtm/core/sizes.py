"""How a number of bytes is written: `64MiB`, `4096`.

Knows no command line: only text and bytes.
"""

from __future__ import annotations

import re

# 2**60: an exabyte; anything above is a unit mistaken.
MOST_BYTES = 2**60

_BYTES_IN = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = re.compile(r"(?P<count>[0-9]+(?:\.[0-9]+)?)\s?(?P<unit>[A-Za-z]*)")
_WANTED = "wanted a size such as 512KiB, 64MiB or 2GiB (a number alone is bytes)"


def parse_size(text: str) -> int:
    """Give the bytes that `text` names, from 0 to `MOST_BYTES`; a fraction of a byte is dropped.

    Raises:
        ValueError: `text` is something else.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{_WANTED}, found {text[:40]!r}")
    unit = match["unit"] or "B"
    if unit not in _BYTES_IN:
        raise ValueError(f"{_WANTED}, found {text[:40]!r}; there is no unit {unit!r}")
    count, _, fraction = match["count"].partition(".")
    size = int(count + fraction) * _BYTES_IN[unit] // int(f"1{'0' * len(fraction)}")
    if size > MOST_BYTES:
        raise ValueError(f"{_WANTED} of at most {format_size(MOST_BYTES)}, found {text[:40]!r}")
    return size


def format_size(size: int) -> str:
    """Write `size` as briefly as `parse_size` can read it, exact to the byte."""
    unit = next(unit for unit in reversed(_BYTES_IN) if unit == "B" or (size and size % _BYTES_IN[unit] == 0))
    return str(size) if unit == "B" else f"{size // _BYTES_IN[unit]}{unit}"
