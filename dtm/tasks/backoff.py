"""How long to wait between the tries of a task: always as long, longer by steps, or twice as long each time.

`jitter` is the part of each wait that chance decides, from 0 (none of it) to 1: tasks that failed together do not come
back together.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import msgspec
from msgspec import Struct

from dtm.core.durations import Duration, seconds_of
from dtm.protocol.messages import RetryPolicy, Share


def _policy(
    backoff: Literal["constant", "linear", "exponential"], delay: Duration, max_delay: Duration, jitter: float
) -> RetryPolicy:
    delay_s = seconds_of(delay)
    max_delay_s = seconds_of(max_delay)
    if max_delay_s < delay_s:
        raise ValueError(f"wanted a max_delay not below the delay, found {max_delay!r} and {delay!r}")
    try:
        msgspec.convert(jitter, Share)
    except msgspec.ValidationError as error:
        raise ValueError(f"wanted a jitter from 0 to 1, found {jitter!r}") from error
    return RetryPolicy(backoff=backoff, delay=delay_s, max_delay=max_delay_s, jitter=jitter)


class Constant(Struct, frozen=True):
    """Wait `delay` before each try.

    Raises:
        ValueError: a duration is none, or the jitter is not from 0 to 1.
    """

    delay: Duration
    jitter: float = 0.0

    def __post_init__(self) -> None:
        self.policy()

    def policy(self) -> RetryPolicy:
        """Give it as the wire has it."""
        return _policy("constant", self.delay, self.delay, self.jitter)


class _Growing(Struct, frozen=True):
    """A wait that grows with each try."""

    delay: Duration = "1s"
    max_delay: Duration = "5m"
    jitter: float = 0.5

    _grows: ClassVar[Literal["linear", "exponential"]]

    def __post_init__(self) -> None:
        self.policy()

    def policy(self) -> RetryPolicy:
        """Give it as the wire has it."""
        return _policy(self._grows, self.delay, self.max_delay, self.jitter)


class Linear(_Growing, frozen=True):
    """Wait `delay`, then twice, three times … `delay`, and never longer than `max_delay`.

    Raises:
        ValueError: a duration is none, `max_delay` is below `delay`, or the jitter is not from 0 to 1.
    """

    _grows = "linear"


class Exponential(_Growing, frozen=True):
    """Wait `delay`, then twice, four times … `delay`, and never longer than `max_delay`.

    Raises:
        ValueError: a duration is none, `max_delay` is below `delay`, or the jitter is not from 0 to 1.
    """

    _grows = "exponential"


Backoff: TypeAlias = Constant | Linear | Exponential
