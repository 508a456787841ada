"""Whether an integer is prime, however large, without stopping the other threads.

Knows no tasks: an integer goes in, a truth value comes out.

gmpy2's own `is_prime` holds the interpreter lock while it computes (measured with 2.3.2; the context flag
`allow_release_gil` changes nothing there): half a second for 3,000 digits, many seconds for 10,000, in which
the client could not even say that it is alive. So it serves the small numbers. For a large one the same test
(Baillie-PSW: no composite is known to pass it, and none below 2**64 does) is put together from steps that let
others run: `powmod`, which does release the lock, and a Lucas ladder, each rung of which is short.
"""

from __future__ import annotations

import gmpy2  # type: ignore[import-untyped]
from gmpy2 import mpz

# gmpy2 needs about 10 ms for a prime of this size, two switch intervals of the interpreter.
_SMALL_BITS = 2_048
# Most composites end here, after one division. Far smaller than the numbers it is used for.
_SMALL_PRIMES = gmpy2.primorial(10_000)


def is_prime(n: mpz) -> bool:
    """Say whether `n`, any integer, is a prime; negative numbers, 0 and 1 are none."""
    if n < 2:  # noqa: PLR2004  the first prime
        return False
    if n.bit_length() <= _SMALL_BITS:
        return bool(gmpy2.is_prime(n))
    with gmpy2.context(allow_release_gil=True):
        return gmpy2.gcd(n, _SMALL_PRIMES) == 1 and _is_baillie_psw_prp(n)


def _is_baillie_psw_prp(n: mpz) -> bool:
    """Test an odd `n` above 2 in both ways; only primes are known to pass."""
    return _is_strong_prp(n) and _is_extra_strong_lucas_prp(n)


def _is_strong_prp(n: mpz) -> bool:
    """Test an odd `n` above 2 as Miller and Rabin do, with base 2; all primes pass."""
    halvings = gmpy2.bit_scan1(n - 1)
    power = gmpy2.powmod(2, (n - 1) >> halvings, n)
    if power == 1:
        return True
    for _ in range(halvings - 1):
        if power == n - 1:
            return True
        power = power * power % n
    return bool(power == n - 1)


def _is_extra_strong_lucas_prp(n: mpz) -> bool:
    """Test an odd `n` above 2 with the Lucas sequence of Q = 1 and the least P that fits; all primes pass.

    Source: Jon Grantham, "Frobenius pseudoprimes", Math. Comp. 70 (2000), 873-891. The composites that pass
    are listed in https://oeis.org/A217719.
    """
    p = _lucas_parameter(n)
    if p == 0:
        return False
    halvings = gmpy2.bit_scan1(n + 1)
    v, v_next = _lucas_pair(p, (n + 1) >> halvings, n)
    # 2 * v_next - p * v is U times the discriminant.
    if v in (2, n - 2) and (2 * v_next - p * v) % n == 0:
        return True
    for _ in range(halvings - 1):
        if v == 0:
            return True
        v = (v * v - 2) % n
    return False


def _lucas_parameter(n: mpz) -> int:
    """Find the P whose discriminant is no square modulo `n`; 0 if the search shows that `n` is composite."""
    if gmpy2.is_square(n):
        return 0
    p = 3
    while (symbol := gmpy2.jacobi(p * p - 4, n)) != -1:
        if symbol == 0 and (p * p - 4) % n:
            return 0
        p += 1
    return p


def _lucas_pair(p: int, index: mpz, n: mpz) -> tuple[mpz, mpz]:
    """Give V(index) and V(index + 1) of the Lucas sequence (P, 1) modulo `n`, by doubling."""
    v, v_next = mpz(2), mpz(p)
    for bit in range(index.bit_length() - 1, -1, -1):
        middle = (v * v_next - p) % n
        if gmpy2.bit_test(index, bit):
            v, v_next = middle, (v_next * v_next - 2) % n
        else:
            v, v_next = (v * v - 2) % n, middle
    return v, v_next
