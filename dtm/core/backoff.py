"""How long to wait before the next try.

Knows no clock and no chance: a draw comes in as a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

# 2.0 ** 1024 overflows; long before this many doublings every first delay has met its cap.
_MOST_DOUBLINGS = 1_000


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with equal jitter, from a first delay up to a cap, both in seconds.

    The ceiling doubles with each attempt until it meets the cap. Half of it is always waited, the other half
    is left to chance: those who failed together come back apart, and nobody comes back at once.

        ceiling = min(cap_s, first_s * 2 ** (attempt - 1))
        delay   = ceiling / 2 + uniform * ceiling / 2

    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, there "equal jitter":
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Raises:
        ValueError: `first_s` is not above 0, or `cap_s` is below it or not finite.
    """

    first_s: float
    cap_s: float

    def __post_init__(self) -> None:
        if not (0 < self.first_s <= self.cap_s and isfinite(self.cap_s)):
            raise ValueError(
                f"wanted a first delay above 0 and a finite cap not below it, found {self.first_s!r} and {self.cap_s!r}"
            )

    def delay_s(self, attempt: int, uniform: float) -> float:
        """Give the seconds to wait after attempt number `attempt`, counted from 1 without limit.

        `uniform` is one draw from [0, 1). The delay is at least half the ceiling and never above the cap.

        Raises:
            ValueError: `attempt` or `uniform` is out of range.
        """
        if attempt < 1:
            raise ValueError(f"wanted an attempt counted from 1, found {attempt!r}")
        if not 0 <= uniform < 1:
            raise ValueError(f"wanted a draw from [0, 1), found {uniform!r}")
        half = self._ceiling_s(attempt) / 2
        return half + uniform * half

    def _ceiling_s(self, attempt: int) -> float:
        doublings = min(attempt - 1, _MOST_DOUBLINGS)
        return min(self.cap_s, self.first_s * 2.0**doublings)
