"""How long to wait before the next try.

Knows no clock and no chance: a draw comes in as a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

# 2.0 ** 1024 overflows; long before this many doublings every first delay has met its cap.
_MOST_DOUBLINGS = 1_000
# The same for the linear growth: the last number of attempts that a float counts exactly.
_MOST_TIMES = 2**53


class Growth(StrEnum):
    """How the ceiling of the wait depends on the number of the attempt."""

    CONSTANT = "constant"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"


@dataclass(frozen=True, slots=True)
class Backoff:
    """Backoff from a first delay up to a cap, both in seconds; unless told otherwise exponential, with equal jitter.

    The ceiling doubles with each attempt until it meets the cap. Half of it is always waited, the other half
    is left to chance: those who failed together come back apart, and nobody comes back at once.

        ceiling = min(cap_s, first_s * 2 ** (attempt - 1))
        delay   = ceiling * (1 - jitter) + uniform * ceiling * jitter

    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, there "equal jitter", which is
    a `jitter` of 0.5, and with 1 "full jitter":
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Raises:
        ValueError: `first_s` is not above 0, `cap_s` is below it or not finite, or `jitter` is not from 0 to 1.
    """

    first_s: float
    cap_s: float
    growth: Growth = Growth.EXPONENTIAL
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.first_s <= self.cap_s and isfinite(self.cap_s)):
            raise ValueError(
                f"wanted a first delay above 0 and a finite cap not below it, found {self.first_s!r} and {self.cap_s!r}"
            )
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"wanted a jitter from 0 to 1, found {self.jitter!r}")

    def delay_s(self, attempt: int, uniform: float) -> float:
        """Give the seconds to wait after attempt number `attempt`, counted from 1 without limit.

        `uniform` is one draw from [0, 1). The delay is at least the part of the ceiling that the jitter leaves, and
        never above the cap.

        Raises:
            ValueError: `attempt` or `uniform` is out of range.
        """
        if attempt < 1:
            raise ValueError(f"wanted an attempt counted from 1, found {attempt!r}")
        if not 0 <= uniform < 1:
            raise ValueError(f"wanted a draw from [0, 1), found {uniform!r}")
        ceiling_s = min(self.cap_s, self.first_s * self._times(attempt))
        by_chance_s = ceiling_s * self.jitter
        return ceiling_s - by_chance_s + uniform * by_chance_s

    def _times(self, attempt: int) -> float:
        match self.growth:
            case Growth.CONSTANT:
                return 1.0
            case Growth.LINEAR:
                return float(min(attempt, _MOST_TIMES))
            case Growth.EXPONENTIAL:
                return float(2.0 ** min(attempt - 1, _MOST_DOUBLINGS))
