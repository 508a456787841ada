"""How a length of time is written: `500ms`, `10s`, `1h30m`.

Knows no clock and no command line: only text and seconds.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from math import isfinite
from typing import TypeAlias

# A hundred years, as on the wire: anything above is a unit mistaken.
MOST_S = 100 * 365 * 86_400

Duration: TypeAlias = str | float | timedelta
"""A length of time as a program writes it: `"30s"`, a number of seconds, or a timedelta."""

_MICROS = 1_000_000
_SECONDS_IN = {
    "d": Decimal(86_400),
    "h": Decimal(3_600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_BARE = re.compile(_NUMBER)
# Each unit at most once and the larger first, so that a slip such as `30m1h` or `1h1h` is not guessed at.
_UNITS = re.compile("".join(f"(?:(?P<{unit}>{_NUMBER}){unit})?" for unit in _SECONDS_IN))
_WANTED = "wanted a duration such as 500ms, 10s, 5m, 2h, 7d or 1h30m (a number alone is seconds)"


def parse_duration(text: str) -> float:
    """Give the seconds that `text` names, from 0 to `MOST_S`.

    The units are d, h, m, s and ms, the larger first and each at most once; every number may have a fraction.

    Raises:
        ValueError: `text` is something else.
    """
    stripped = text.strip()
    if not stripped:
        raise ValueError(f"{_WANTED}, found nothing")
    seconds = _seconds(stripped)
    if seconds is None:
        raise ValueError(f"{_WANTED}, found {_excerpt(stripped)}{_slip(stripped)}")
    if seconds > MOST_S:
        raise ValueError(f"{_WANTED} of at most {format_duration(MOST_S)}, found {_excerpt(stripped)}")
    return float(seconds)


def seconds_of(duration: Duration) -> float:
    """Give the seconds of a `duration` as a program writes it: `"1m"`, a number of seconds, or a timedelta.

    Raises:
        ValueError: it is no duration from 0 to `MOST_S`.
    """
    if isinstance(duration, str):
        return parse_duration(duration)
    if isinstance(duration, bool) or not isinstance(duration, int | float | timedelta):
        raise ValueError(f'wanted a duration such as "30s", 30 or a timedelta, found {duration!r}')
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if not 0 <= seconds <= MOST_S:
        raise ValueError(f"wanted a duration from 0 to {format_duration(MOST_S)}, found {duration!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """Write `seconds` as briefly as `parse_duration` can read it, exact to the microsecond.

    Raises:
        ValueError: `seconds` is negative, infinite or not a number.
    """
    if not (isfinite(seconds) and seconds >= 0):
        raise ValueError(f"wanted a finite number of seconds from 0 up, found {seconds!r}")
    micros = round(seconds * _MICROS)
    if 0 < micros < _MICROS:
        return f"{_fraction(micros, 1_000)}ms"
    minutes, rest = divmod(micros, 60 * _MICROS)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if count]
    if rest or not parts:
        parts.append(f"{_fraction(rest, _MICROS)}s")
    return "".join(parts)


def _seconds(text: str) -> Decimal | None:
    if _BARE.fullmatch(text):
        return Decimal(text)
    match = _UNITS.fullmatch(text)
    if match is None:
        return None
    parts = (Decimal(number) * _SECONDS_IN[unit] for unit, number in match.groupdict().items() if number is not None)
    return sum(parts, Decimal(0))


def _slip(text: str) -> str:
    """Name the two commonest slips, a sign and a unit that does not exist."""
    if text.startswith("-"):
        return ", which is negative"
    strange = [word for word in re.findall(r"[^\W\d_]+", text) if word not in _SECONDS_IN]
    if strange and text[0].isdigit():
        return f"; there is no unit {_excerpt(strange[0])}"
    return ""


def _excerpt(text: str, most: int = 40) -> str:
    return repr(text if len(text) <= most else f"{text[:most]}…")


def _fraction(count: int, unit: int) -> str:
    """Write count/unit, `unit` being a power of ten, without zeros at the end."""
    whole, rest = divmod(count, unit)
    digits = str(unit + rest)[1:].rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
