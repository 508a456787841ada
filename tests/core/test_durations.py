"""Durations: what can be written, what is refused, and that both ways agree."""

from __future__ import annotations

import math
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtm.core.durations import MOST_S, format_duration, parse_duration, seconds_of

READ = {
    "0": 0.0,
    "0s": 0.0,
    "10": 10.0,
    "2.5": 2.5,
    "500ms": 0.5,
    "0.1ms": 0.0001,
    "10s": 10.0,
    "1.5s": 1.5,
    "5m": 300.0,
    "2h": 7_200.0,
    "7d": 604_800.0,
    "1h30m": 5_400.0,
    "1h30m15s": 5_415.0,
    "1d2h3m4s5ms": 93_784.005,
    "1h500ms": 3_600.5,
    "0.1s": 0.1,
    " 10s ": 10.0,
    "36500d": float(MOST_S),
}

WRITTEN = {
    0: "0s",
    0.0000004: "0s",
    0.000001: "0.001ms",
    0.0001: "0.1ms",
    0.25: "250ms",
    0.5: "500ms",
    0.9999999: "1s",
    1: "1s",
    1.5: "1.5s",
    10: "10s",
    60: "1m",
    60.5: "1m0.5s",
    90: "1m30s",
    300: "5m",
    3_600: "1h",
    5_400: "1h30m",
    86_400: "1d",
    129_600: "1d12h",
    604_800: "7d",
    86_401: "1d1s",
}

REFUSED = {
    "": "found nothing",
    "  ": "found nothing",
    "-5s": "found '-5s', which is negative",
    "-1": "negative",
    "+5s": "found '+5s'",
    "nan": "found 'nan'",
    "inf": "found 'inf'",
    "-inf": "negative",
    "s": "found 's'",
    "5 s": "found '5 s'",
    "5x": "no unit 'x'",
    "5M": "no unit 'M'",
    "5min": "no unit 'min'",
    "1h 30m": "found '1h 30m'",
    "30m1h": "found '30m1h'",
    "1h1h": "found '1h1h'",
    "1.s": "found '1.s'",
    ".5s": "found '.5s'",
    "1,5s": "found '1,5s'",
    "1e3": "no unit 'e'",
    "0x10": "no unit 'x'",
    "1_000": "found '1_000'",
    "٣s": "found '٣s'",
    "1s..5m": "found '1s..5m'",
    "36501d": "at most 36500d, found '36501d'",
    "9" * 400: "at most 36500d",
}


@pytest.mark.parametrize(("text", "seconds"), READ.items())
def test_text_becomes_seconds(text: str, seconds: float) -> None:
    """Every form of the table, alone and combined, names its seconds exactly."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("seconds", "text"), WRITTEN.items())
def test_seconds_become_the_shortest_text(seconds: float, text: str) -> None:
    """What a person would have typed: no empty units, no zeros at the end."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("text", "complaint"), REFUSED.items())
def test_other_text_is_refused(text: str, complaint: str) -> None:
    """The message says what was wanted and what was found."""
    with pytest.raises(ValueError, match=re.escape(complaint)) as refusal:
        parse_duration(text)

    assert str(refusal.value).startswith("wanted a duration such as 500ms, 10s")


def test_a_refusal_stays_short() -> None:
    """A long text is not repeated in full."""
    with pytest.raises(ValueError, match="…") as refusal:
        parse_duration("x" * 100_000)

    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("seconds", [-1.0, -0.001, float("nan"), float("inf"), float("-inf")])
def test_impossible_seconds_are_not_written(seconds: float) -> None:
    """A negative, infinite or undefined length of time has no text."""
    with pytest.raises(ValueError, match="finite number of seconds from 0 up"):
        format_duration(seconds)


@given(st.integers(0, MOST_S * 1_000_000))
def test_what_is_written_can_be_read(micros: int) -> None:
    """Writing and reading give back every duration, to the microsecond."""
    seconds = micros / 1_000_000

    assert round(parse_duration(format_duration(seconds)) * 1_000_000) == micros


@given(st.floats(0, MOST_S))
def test_what_was_read_is_written_the_same_again(seconds: float) -> None:
    """The written form is a fixed point."""
    text = format_duration(seconds)

    assert format_duration(parse_duration(text)) == text


@given(st.text())
def test_any_text_gives_seconds_in_range_or_a_value_error(text: str) -> None:
    """No text makes it fail in another way, or name seconds out of range."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        return

    assert 0 <= seconds <= MOST_S


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("1h30m", 5_400.0), (0, 0.0), (2.5, 2.5), (timedelta(milliseconds=1), 0.001), (MOST_S, MOST_S)],
)
def test_a_program_writes_text_numbers_or_timedeltas(duration: str | float | timedelta, seconds: float) -> None:
    """All three mean seconds."""
    assert seconds_of(duration) == seconds


@pytest.mark.parametrize("duration", [-0.001, MOST_S + 1, math.nan, math.inf, timedelta(seconds=-1), "soon"])
def test_what_is_no_duration_is_refused(duration: str | float | timedelta) -> None:
    """With what was found."""
    with pytest.raises(ValueError, match="wanted a duration") as refusal:
        seconds_of(duration)
    assert f"found {duration!r}" in str(refusal.value)
