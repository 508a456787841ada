"""The kinds that every client can run: `CheckPrime` and `HashText`, written as users write theirs."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from random import Random

import msgspec
from gmpy2 import mpz  # type: ignore[import-untyped]

from dtm.client.failures import excerpt
from dtm.client.handlers import Handler, registry
from dtm.client.verdicts import Reject
from dtm.core.errors import DtmError
from dtm.tasks.app import App
from dtm.tasks.primes import is_prime

app = App()

_INTEGER = re.compile(r"[+-]?[0-9]+")


class SimulatedFailure(DtmError):
    """A failure on purpose, to show what retries and dead letters do."""


# Raw, because msgspec itself reads integers of a few hundred digits only.
@app.task(kind="CheckPrime")
def check_prime(number: msgspec.Raw, /) -> bool:
    """Say whether `number`, an integer of any size or its decimal digits as text, is prime.

    Raises:
        Reject: it is anything else, such as `7.0`, `1e3`, `"0x7"`, `" 7 "`, `true` or `null`.
    """
    return is_prime(_integer(number))


@app.task(kind="HashText")
def hash_text(text: str, /) -> str:
    """Give the SHA-256 of the UTF-8 bytes of `text`, in lower-case hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


CHECK_PRIME = check_prime.handler
HASH_TEXT = hash_text.handler
BUILTIN = registry(CHECK_PRIME, HASH_TEXT)


def with_failures(handler: Handler, rate: float, random: Random) -> Handler:
    """Make `handler` raise `SimulatedFailure`, before it does anything, in `rate` of its runs.

    Raises:
        ValueError: `rate` is no probability, from 0 (never) to 1 (always).
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"wanted a failure rate from 0 to 1, found {rate!r}")

    def perhaps_fail() -> None:
        if random.random() < rate:
            raise SimulatedFailure(f"simulated failure: the failure rate of this client is {rate:g}")

    return replace(handler, before=perhaps_fail)


def _integer(payload: msgspec.Raw) -> mpz:
    json = bytes(payload).strip().decode("utf-8", "backslashreplace")
    text = _unquoted(json)
    if text is None or not _INTEGER.fullmatch(text):
        raise Reject(
            f"CheckPrime wanted an integer or its decimal digits as text, found {excerpt(json)};"
            ' submit for example 97 or "97"'
        )
    # Not int(): Python refuses more than 4,300 digits, because its own conversion is slow; gmpy2's is fast.
    return mpz(text)


def _unquoted(json: str) -> str | None:
    if not json.startswith('"'):
        return json
    try:
        return msgspec.json.decode(json, type=str)
    except ValueError:
        return None
