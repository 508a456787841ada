"""Primes: the composed test against gmpy2 and against lists, and that other threads go on."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import gmpy2  # type: ignore[import-untyped]
import pytest
from gmpy2 import mpz
from hypothesis import given
from hypothesis import strategies as st

from dtm.tasks.primes import (
    _is_baillie_psw_prp,
    _is_extra_strong_lucas_prp,
    _is_strong_prp,
    is_prime,
)

# The first composites that pass: https://oeis.org/A001262 and https://oeis.org/A217719.
STRONG_PSEUDOPRIMES = [2047, 3277, 4033, 4681, 8321, 15841, 29341, 42799, 49141, 52633, 65281, 74665]
LUCAS_PSEUDOPRIMES = [989, 3239, 5777, 10877, 27971, 29681, 30739, 31631, 39059, 72389, 73919, 75077]


def test_the_strong_test_passes_primes_and_the_known_pseudoprimes() -> None:
    """Up to 75,000 it is wrong exactly where the literature says."""
    passed = [n for n in range(3, 75_000, 2) if _is_strong_prp(mpz(n)) and not gmpy2.is_prime(n)]

    assert passed == STRONG_PSEUDOPRIMES
    assert all(_is_strong_prp(mpz(n)) for n in range(3, 75_000, 2) if gmpy2.is_prime(n))


def test_the_lucas_test_passes_primes_and_the_known_pseudoprimes() -> None:
    """Up to 75,100 it is wrong exactly where the literature says."""
    passed = [n for n in range(3, 75_100, 2) if _is_extra_strong_lucas_prp(mpz(n)) and not gmpy2.is_prime(n)]

    assert passed == LUCAS_PSEUDOPRIMES
    assert all(_is_extra_strong_lucas_prp(mpz(n)) for n in range(3, 75_100, 2) if gmpy2.is_prime(n))


def test_no_composite_passes_both() -> None:
    """Where one of the two is wrong, the other is right."""
    assert all(_is_baillie_psw_prp(mpz(n)) == gmpy2.is_prime(n) for n in range(3, 75_100, 2))


def test_the_lucas_test_ends_for_a_square() -> None:
    """The search for its parameter would not: modulo a square no discriminant fits."""
    assert not _is_extra_strong_lucas_prp((mpz(2) ** 127 - 1) ** 2)


@pytest.mark.parametrize(
    "n",
    [
        mpz(2) ** 2203 - 1,
        mpz(2) ** 4423 - 1,
        mpz(3) * 2**2816 + 1,
        gmpy2.next_prime(mpz(10) ** 1000),
    ],
    ids=["M2203", "M4423", "Proth", "1001 digits"],
)
def test_large_primes_are_prime(n: mpz) -> None:
    """Primes too large to be given to gmpy2 in one piece, of several forms."""
    assert n.bit_length() > 2_048
    assert is_prime(n)


@pytest.mark.parametrize(
    "n",
    [
        mpz(2) ** 2203 + 1,
        mpz(2) ** 4421 - 1,
        (mpz(2) ** 1279 - 1) * (mpz(2) ** 2203 - 1),
        (mpz(2) ** 1279 - 1) ** 2,
        (mpz(2) ** 2203 - 1) * 2,
        mpz(10) ** 10_000 + 1,
        1 - mpz(2) ** 4423,
    ],
    ids=["factor 3", "Mersenne", "two primes", "square", "even", "10,001 digits", "negative"],
)
def test_large_composites_are_not_prime(n: mpz) -> None:
    """With small factors, with none, and squares, for which no Lucas parameter exists."""
    assert not is_prime(n)


def test_each_half_of_the_test_is_needed() -> None:
    """Mersenne numbers pass the strong test always; the Lucas test tells them apart."""
    n = mpz(2) ** 4421 - 1

    assert _is_strong_prp(n)
    assert not _is_extra_strong_lucas_prp(n)


@given(st.integers(2**2_048, 2**2_200))
def test_it_agrees_with_gmpy2_on_large_integers(n: int) -> None:
    """Any integer just above the threshold is judged as gmpy2 judges it."""
    assert is_prime(mpz(n)) == gmpy2.is_prime(n)


@given(st.integers(-(2**70), 2**70))
def test_it_agrees_with_gmpy2_on_small_integers(n: int) -> None:
    """Below the threshold too, and no negative number is prime."""
    assert is_prime(mpz(n)) == (n > 0 and gmpy2.is_prime(n))


@pytest.mark.parametrize(
    ("n", "verdict"),
    [(mpz(2) ** 11_213 - 1, True), ((mpz(2) ** 4_423 - 1) * (mpz(2) ** 9_689 - 1), False)],
    ids=["prime", "two primes"],
)
def test_other_threads_go_on_while_a_large_number_is_checked(n: mpz, *, verdict: bool) -> None:
    """The interpreter lock is released, for primes and for composites, so that the client can say it is alive."""
    verdicts: list[bool] = []
    thread = threading.Thread(target=lambda: verdicts.append(is_prime(n)))
    awake_at = [time.monotonic()]
    thread.start()  # which already waits for the new thread to let go
    while thread.is_alive():
        awake_at.append(time.monotonic())
        time.sleep(0.001)
    awake_at.append(time.monotonic())

    longest_s = max(later - earlier for earlier, later in pairwise(awake_at))
    assert verdicts == [verdict]
    # With the lock held, this thread would sleep through nearly all of it (the composite) or most (the prime).
    assert longest_s < (awake_at[-1] - awake_at[0]) / 4
