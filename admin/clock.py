"""What time it is, and how times are written.

Instants and spans are microseconds, instants in UTC.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from dtm.core.durations import format_duration

Clock = Callable[[], int]

SECOND = 1_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGES = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def utc_now() -> int:
    """Give the present instant."""
    return time.time_ns() // 1_000


def exact(at: int | None) -> str | None:
    """Write an instant in ISO 8601 for programs, with microseconds."""
    return None if at is None else _iso(at, timespec="microseconds")


def plain(at: int) -> str:
    """Write an instant in ISO 8601 for people, with seconds."""
    return _iso(at, timespec="seconds")


def with_age(at: int | None, now: int) -> str:
    """Write an instant for people, with how far it is from now; `-` if there is none."""
    return "-" if at is None else f"{plain(at)} ({age(at, now)})"


def age(at: int, now: int) -> str:
    """Say roughly how long ago an instant was, or how soon it comes: `3m ago`, `in 2h`."""
    return f"in {_roughly(at - now)}" if at > now else f"{_roughly(now - at)} ago"


def span(microseconds: int) -> str:
    """Write a length of time for people, to the millisecond."""
    return format_duration(max(0, round(microseconds / SECOND, 3)))


def seconds(microseconds: int | None) -> float | None:
    """Give a length of time in seconds for programs."""
    return None if microseconds is None else microseconds / SECOND


def _iso(at: int, *, timespec: str) -> str:
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec=timespec).replace("+00:00", "Z")


def _roughly(microseconds: int) -> str:
    whole = microseconds // SECOND
    return next((f"{whole // size}{unit}" for size, unit in _AGES if whole >= size), "0s")
