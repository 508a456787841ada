"""Lengths of time as people write them in a program: "30s", 30, 0.5 or a timedelta."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

from dtm.core.durations import MOST_S, format_duration, parse_duration

Duration: TypeAlias = str | float | timedelta


def seconds(duration: Duration) -> float:
    """Give the seconds of `duration`, 0 up to a hundred years.

    Raises:
        ValueError: it is none.
    """
    match duration:
        case str():
            return parse_duration(duration)
        case timedelta():
            length_s = duration.total_seconds()
        case bool():
            raise ValueError(f'wanted a duration such as "30s", 30 or a timedelta, found {duration!r}')
        case int() | float():
            length_s = float(duration)
        case _:
            raise ValueError(f'wanted a duration such as "30s", 30 or a timedelta, found {duration!r}')
    if not 0 <= length_s <= MOST_S:
        raise ValueError(f"wanted a duration from 0s to {format_duration(MOST_S)}, found {duration!r}")
    return length_s


def positive(duration: Duration) -> float:
    """Give the seconds of `duration`, which must be above 0.

    Raises:
        ValueError: it is none, or 0.
    """
    length_s = seconds(duration)
    if length_s == 0:
        raise ValueError("wanted a duration above 0, found 0")
    return length_s
