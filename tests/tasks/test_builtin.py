"""The built-in kinds: right for every input, and clear about every bad one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from random import Random
from typing import Any

import anyio
import gmpy2  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtm.client.current import CurrentTask
from dtm.client.failures import Failure
from dtm.client.handlers import Handler, Outcome, Success, run_async, run_sync
from dtm.client.pool.processes import Processes
from dtm.client.work import Work
from dtm.tasks.builtin import BUILTIN, CHECK_PRIME, HASH_TEXT, check_prime, with_failures

SIEVED = 100_000

# Exponents of the Mersenne primes up to 4423: https://oeis.org/A000043.
MERSENNE = [2, 3, 5, 7, 13, 17, 19, 31, 61, 89, 107, 127, 521, 607, 1279, 2203, 2281, 3217, 4253, 4423]
CARMICHAEL = [561, 1105, 1729, 2465, 2821, 6601, 8911, 10585, 15841, 29341, 41041, 825265, 321197185]
# Strong pseudoprimes to the bases 2; 2 to 3; ...; 2 to 37: https://oeis.org/A014233.
STRONG_PSEUDOPRIMES = [
    2047,
    1373653,
    25326001,
    3215031751,
    2152302898747,
    3474749660383,
    341550071728321,
    3825123056546413051,
    318665857834031151167461,
    3317044064679887385961981,
]
# The least factor of Arnault's composite of 397 digits, which passes the strong test for all bases below 307:
# F. Arnault, "Constructing Carmichael numbers which are strong pseudoprimes to several bases", 1995.
ARNAULT = int(
    "296744956686855105501541746429053327307719917998530433509950755312768387531717701995942385964281211880336"
    "64754218345562493168782883"
)
PASSES_ALL_BASES_BELOW_307 = ARNAULT * (313 * (ARNAULT - 1) + 1) * (353 * (ARNAULT - 1) + 1)

BAD_INTEGERS = [
    "7.0",
    "7.5",
    "1e3",
    "1E3",
    "-0.0",
    "true",
    "false",
    "null",
    "[]",
    "[7]",
    "{}",
    '""',
    '" "',
    '" 7"',
    '"7 "',
    '"7\\n"',
    '"seven"',
    '"7.0"',
    '"1e3"',
    '"0x7"',
    '"0b1"',
    '"1_000"',
    '"1,000"',
    '"--7"',
    '"+-7"',
    '"+"',
    '"-"',
    '"- 7"',
    '"nan"',
    '"true"',
    '"\\u0667"',  # the Arabic-Indic digit seven
    '"\\uff17"',  # the full-width digit seven
    '"\\u00b2"',  # the superscript two
    '"7\\u0000"',
]


def run(handler: Handler, payload: bytes) -> Outcome:
    """Run it as the client does."""
    return run_sync(handler, payload, max_result_bytes=1_000)


def prime(n: int | str) -> bool:
    """Check the JSON text `n`."""
    return check_prime(msgspec.Raw(str(n).encode()))


def sieve(end: int) -> list[bool]:
    """Say of each number below `end` whether it is prime, as Eratosthenes did."""
    marks = [False, False] + [True] * (end - 2)
    for n in range(2, int(end**0.5) + 1):
        if marks[n]:
            marks[n * n :: n] = [False] * len(marks[n * n :: n])
    return marks


def test_the_composite_of_arnault_is_the_right_one() -> None:
    """It has 397 digits and deceives the strong test for every prime base below 307, but not for 307."""
    bases = [base for base in range(2, 308) if gmpy2.is_prime(base)]

    assert len(str(PASSES_ALL_BASES_BELOW_307)) == 397
    assert [b for b in bases if not gmpy2.is_strong_prp(PASSES_ALL_BASES_BELOW_307, b)] == [307]


# --- CheckPrime -----------------------------------------------------------------------------------


def test_every_small_number_is_judged_as_by_a_sieve() -> None:
    """No number up to 100,000 is judged wrongly."""
    assert [prime(n) for n in range(SIEVED)] == sieve(SIEVED)


@pytest.mark.parametrize("n", [0, 1, -1, -2, -3, -7, -(2**61 - 1), "-0"])
def test_numbers_below_two_are_not_prime(n: int | str) -> None:
    """Nor is a negative number whose opposite is."""
    assert not prime(n)


@pytest.mark.parametrize("n", CARMICHAEL + STRONG_PSEUDOPRIMES + [PASSES_ALL_BASES_BELOW_307])
def test_impostors_are_found_out(n: int) -> None:
    """Carmichael numbers pass Fermat's test; the others pass the strong test for many bases at once."""
    assert not prime(n)


@pytest.mark.parametrize("n", [2**64 - 59, 2**64 + 13, 2**256 - 2**32 - 977, 10**100 + 267, 10**999 + 7])
def test_primes_around_and_beyond_64_bits_are_prime(n: int) -> None:
    """The size of a machine word makes no difference."""
    assert prime(n)


def test_mersenne_numbers_are_prime_for_the_known_exponents_only() -> None:
    """Among prime exponents up to 700, and for all known ones up to 4423."""
    marks = sieve(700)
    found = [exponent for exponent in range(700) if marks[exponent] and prime(str(2**exponent - 1))]

    assert found == [exponent for exponent in MERSENNE if exponent < 700]
    assert all(prime(2**exponent - 1) for exponent in MERSENNE)


def test_a_string_of_ten_thousand_digits_is_judged() -> None:
    """Python's limit of 4,300 digits is not ours: not for a composite, nor for a number token."""
    digits = "9" * 9_999 + "7"

    assert run(CHECK_PRIME, f'"{digits}"'.encode()) == Success(msgspec.Raw(b"false"))
    assert run(CHECK_PRIME, digits.encode()) == Success(msgspec.Raw(b"false"))
    assert run(CHECK_PRIME, f'"-{digits}"'.encode()) == Success(msgspec.Raw(b"false"))


@pytest.mark.parametrize(
    "payload", ["97", " 97 ", "\t\r\n97\n", '"97"', ' "97" ', '"+97"', '"0097"', '"\\u0039\\u0037"']
)
def test_a_number_may_be_written_in_several_ways(payload: str) -> None:
    """As a JSON integer or as a string of digits, with a sign, zeros and JSON's own blanks and escapes."""
    assert run(CHECK_PRIME, payload.encode()) == Success(msgspec.Raw(b"true"))


@pytest.mark.parametrize("payload", BAD_INTEGERS)
def test_what_is_no_integer_is_rejected(payload: str) -> None:
    """Nothing is guessed or rounded; the message quotes the payload, and nobody tries it again."""
    outcome = run(CHECK_PRIME, payload.encode())

    assert isinstance(outcome, Failure)
    assert outcome.type == "Reject"
    assert outcome.message.startswith("CheckPrime wanted an integer or its decimal digits as text, found ")
    assert payload in outcome.message
    assert not outcome.retry


@pytest.mark.parametrize("payload", ["", "007", "+7", "NaN", "Infinity", "7 7", "7,", "'7'", '"7', "0x7", '"\\ud800"'])
def test_what_is_no_json_is_rejected(payload: str) -> None:
    """Such a payload cannot come over the wire, and does no harm if it does."""
    outcome = run(CHECK_PRIME, payload.encode())

    assert isinstance(outcome, Failure)
    assert not outcome.retry


def test_a_long_payload_is_quoted_in_short() -> None:
    """Both ends and the length are enough to know it again."""
    outcome = run(CHECK_PRIME, b'"' + b"1" * 10_000 + b'x"')

    assert isinstance(outcome, Failure)
    assert f'…{"1" * 28}x" (10,003 characters)' in outcome.message
    assert len(outcome.message) < 300


@given(st.integers(2, 2**40), st.integers(2, 2**40))
def test_a_product_is_never_prime(one: int, other: int) -> None:
    """Whatever its factors."""
    assert not prime(one * other)


@given(st.recursive(st.none() | st.booleans() | st.floats(), st.lists) | st.text())
def test_any_json_gives_a_verdict_or_is_rejected(payload: Any) -> None:
    """No payload makes it fail in another way."""
    outcome = run(CHECK_PRIME, json.dumps(payload).encode())

    assert isinstance(outcome, Success) or (isinstance(outcome, Failure) and not outcome.retry)


# --- HashText -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    ],
)
def test_known_texts_have_their_known_hashes(text: str, digest: str) -> None:
    """The examples of FIPS 180-2."""
    assert run(HASH_TEXT, msgspec.json.encode(text)) == Success(msgspec.Raw(f'"{digest}"'.encode()))


@given(st.text() | st.sampled_from(["", "🎉", "\0", "a\0b", "é", "e\u0301", "\u2028", "\r\n"]))
def test_every_text_is_hashed_as_by_hashlib(text: str) -> None:
    """Also empty, with emoji, with NUL, and without normalising."""
    expected = hashlib.sha256(text.encode("utf-8")).hexdigest()

    assert run(HASH_TEXT, msgspec.json.encode(text)) == Success(msgspec.Raw(f'"{expected}"'.encode()))


@pytest.mark.parametrize("payload", [b"5", b"null", b"true", b'["a"]', b"{}", b'"\\ud800"', b'"\xff"', b""])
def test_what_is_no_text_is_rejected(payload: bytes) -> None:
    """A number has several texts, so none is chosen."""
    outcome = run(HASH_TEXT, payload)

    assert isinstance(outcome, Failure)
    assert outcome.type == "BadPayload"
    assert not outcome.retry


# --- the registry and the failure rate ------------------------------------------------------------


def test_the_built_in_kinds_carry_their_names() -> None:
    """These names stand in the documentation and in every store."""
    assert dict(BUILTIN) == {"CheckPrime": CHECK_PRIME, "HashText": HASH_TEXT}


def simulate(rate: float, *, seed: int, runs: int) -> list[bool]:
    """Say of each run whether it failed."""
    handler = with_failures(HASH_TEXT, rate, Random(seed))
    return [isinstance(run(handler, b'"x"'), Failure) for _ in range(runs)]


def test_the_failure_rate_holds_over_many_runs() -> None:
    """Never at 0, always at 1, and about one in ten at 0.1."""
    assert sum(simulate(0.0, seed=7, runs=1_000)) == 0
    assert sum(simulate(1.0, seed=7, runs=1_000)) == 1_000
    assert 50 < sum(simulate(0.1, seed=7, runs=1_000)) < 150


def test_a_seed_makes_failures_repeatable() -> None:
    """The same seed fails the same runs; another fails others."""
    assert simulate(0.1, seed=7, runs=200) == simulate(0.1, seed=7, runs=200)
    assert simulate(0.1, seed=7, runs=200) != simulate(0.1, seed=8, runs=200)


def test_a_simulated_failure_comes_before_the_work_and_is_tried_again() -> None:
    """The handler has done nothing, and the failure names itself."""
    done: list[Any] = []
    outcome = run(with_failures(Handler("Note", done.append), 1.0, Random(7)), b"1")

    assert isinstance(outcome, Failure)
    assert (outcome.type, outcome.retry) == ("SimulatedFailure", True)
    assert done == []


def test_a_coroutine_function_can_fail_too() -> None:
    """A wrapped coroutine function is still awaited."""

    async def double(payload: int) -> int:
        return 2 * payload

    handler = Handler("Double", double, payload_type=int)

    async def outcomes() -> list[Outcome]:
        return [
            await run_async(with_failures(handler, rate, Random(7)), b"2", max_result_bytes=10) for rate in (0.0, 1.0)
        ]

    good, bad = anyio.run(outcomes)
    assert with_failures(handler, 0.5, Random(7)).is_async
    assert good == Success(msgspec.Raw(b"4"))
    assert isinstance(bad, Failure)


def test_a_task_in_a_process_can_fail_too() -> None:
    """Although its process finds the handler anew, and knows nothing of rates."""
    handler = replace(HASH_TEXT, executor="process", source="dtm.tasks.builtin:app")
    pool = Processes()
    outcomes = []
    for rate in (1.0, 0.0):
        work = Work(1, with_failures(handler, rate, Random(7)), b'"x"', CurrentTask(1, "HashText", 1))
        outcomes.append(pool.run(work, max_value=100))
    pool.close()

    bad, good = outcomes
    assert isinstance(bad, Failure)
    assert (bad.type, bad.retry) == ("SimulatedFailure", True)
    assert isinstance(good, Success)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), 10])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    """10 % is 0.1."""
    with pytest.raises(ValueError, match="wanted a failure rate from 0 to 1"):
        with_failures(HASH_TEXT, rate, Random(7))
