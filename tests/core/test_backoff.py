"""Backoff: it grows, it stops growing, and it never lets anybody come back at once."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dtm.core.backoff import Backoff, Growth

RETRY = Backoff(1.0, 300.0)

seconds = st.floats(1e-6, 1e9)
draws = st.floats(0, 1, exclude_max=True)
attempts = st.integers(1, 10**30)


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    """Any first delay, any cap not below it, and any growth."""
    first_s = draw(seconds)
    return Backoff(first_s, draw(st.floats(first_s, 1e9)), draw(st.sampled_from(Growth)))


@pytest.mark.parametrize(
    ("attempt", "least", "most"),
    [(1, 0.5, 1.0), (2, 1.0, 2.0), (3, 2.0, 4.0), (9, 128.0, 256.0), (10, 150.0, 300.0), (11, 150.0, 300.0)],
)
def test_the_ceiling_doubles_until_the_cap(attempt: int, least: float, most: float) -> None:
    """The formula, worked by hand for 1s..5m."""
    nearly_one = math.nextafter(1, 0)

    assert RETRY.delay_s(attempt, 0.0) == least
    assert RETRY.delay_s(attempt, nearly_one) == pytest.approx(most)
    assert RETRY.delay_s(attempt, 0.5) == (least + most) / 2


@pytest.mark.parametrize(
    ("growth", "delays"),
    [
        (Growth.CONSTANT, [10.0, 10.0, 10.0, 10.0, 10.0]),
        (Growth.LINEAR, [10.0, 20.0, 30.0, 35.0, 35.0]),
        (Growth.EXPONENTIAL, [10.0, 20.0, 35.0, 35.0, 35.0]),
    ],
)
def test_each_growth_has_its_ceilings(growth: Growth, delays: list[float]) -> None:
    """For 10s..35s, and without chance."""
    backoff = Backoff(10.0, 35.0, growth, jitter=0)

    assert [backoff.delay_s(attempt, 0.9) for attempt in range(1, 6)] == delays


@pytest.mark.parametrize(
    ("jitter", "least", "most"), [(0, 10.0, 10.0), (0.1, 9.0, 10.0), (0.5, 5.0, 10.0), (1, 0.0, 10.0)]
)
def test_jitter_is_the_part_that_is_chance(jitter: float, least: float, most: float) -> None:
    """The rest of the ceiling is always waited."""
    backoff = Backoff(10.0, 10.0, jitter=jitter)

    assert backoff.delay_s(1, 0.0) == least
    assert backoff.delay_s(1, math.nextafter(1, 0)) == pytest.approx(most)


@given(backoffs(), attempts, draws)
def test_a_delay_lies_between_half_the_first_and_the_cap(backoff: Backoff, attempt: int, uniform: float) -> None:
    """Never close to nothing, never above the cap, whatever the attempt and the draw."""
    assert backoff.first_s / 2 <= backoff.delay_s(attempt, uniform) <= backoff.cap_s


@given(backoffs(), attempts, draws)
def test_a_later_attempt_never_waits_less(backoff: Backoff, attempt: int, uniform: float) -> None:
    """With the same draw the delay never shrinks."""
    assert backoff.delay_s(attempt + 1, uniform) >= backoff.delay_s(attempt, uniform)


@given(backoffs(), attempts, draws, draws)
def test_chance_decides_half_of_the_delay(backoff: Backoff, attempt: int, one: float, other: float) -> None:
    """Two draws of one attempt differ by at most a factor of two, and in the order of the draws."""
    assume(one <= other)
    sooner, later = backoff.delay_s(attempt, one), backoff.delay_s(attempt, other)

    assert sooner <= later <= 2 * sooner


@pytest.mark.parametrize("backoff", [Backoff(5e-324, 1.0), Backoff(1.0, 1.0), Backoff(1e308, 1.7e308)])
def test_a_huge_attempt_does_not_overflow(backoff: Backoff) -> None:
    """Attempts are counted without limit, and extreme delays stay finite."""
    assert 0 < backoff.delay_s(10**100, 0.999) <= backoff.cap_s


@pytest.mark.parametrize(
    ("first_s", "cap_s"),
    [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0), (1.0, math.nan)],
)
def test_a_senseless_range_is_refused(first_s: float, cap_s: float) -> None:
    """A delay of nothing, a cap below the first delay and a delay for ever are mistakes."""
    with pytest.raises(ValueError, match="wanted a first delay above 0 and a finite cap"):
        Backoff(first_s, cap_s)


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_are_counted_from_one(attempt: int) -> None:
    """There is nothing to wait for before the first attempt."""
    with pytest.raises(ValueError, match="wanted an attempt counted from 1"):
        RETRY.delay_s(attempt, 0.5)


@pytest.mark.parametrize("uniform", [-0.1, 1.0, math.nan])
def test_a_draw_out_of_range_is_refused(uniform: float) -> None:
    """A draw comes from [0, 1), as random() gives it."""
    with pytest.raises(ValueError, match="wanted a draw"):
        RETRY.delay_s(1, uniform)
