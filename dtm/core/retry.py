"""What a lost attempt costs: another try, or the dead-letter queue.

Knows no clock and no chance: both come in as arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from dtm.core.backoff import Backoff, Growth
from dtm.core.lifecycle import Event


class RetryPolicy(Struct, frozen=True):
    """When a task is tried again, and after which failures; the names are the wire's, durations seconds.

    `delay` and `max_delay` that are left out are the server's, but no cap of the server's cuts a task's own delay.
    """

    backoff: Growth = Growth.EXPONENTIAL
    delay: float | None = None
    max_delay: float | None = None
    jitter: float = 0.5
    retry_for: tuple[str, ...] = ()
    no_retry_for: tuple[str, ...] = ()

    def tries_again(self, names: Sequence[str]) -> bool:
        """Say whether a failure is worth another try; `names` are its type's and those of what that is a kind of."""
        if not set(names).isdisjoint(self.no_retry_for):
            return False
        return not self.retry_for or not set(names).isdisjoint(self.retry_for)

    def delay_s(self, failures: int, uniform: float, *, server: Backoff) -> float:
        """Give the seconds to wait after so many failures, where `server` is what the server does; see `Backoff`."""
        first_s = server.first_s if self.delay is None else self.delay
        cap_s = max(server.cap_s, first_s) if self.max_delay is None else self.max_delay
        if not min(first_s, cap_s):
            return 0.0
        return Backoff(min(first_s, cap_s), cap_s, self.backoff, self.jitter).delay_s(failures, uniform)


AS_THE_SERVER = RetryPolicy()
"""The policy of a task that has none of its own."""


def after_failure(retry_count: int, max_retries: int, *, may_retry: bool) -> Event:
    """Decide for a task whose handler failed, when `retry_count` attempts had failed before.

    The third failed attempt of a task with `max_retries` 3 is its last. `may_retry` is the worker's word and the
    task's policy: false where another attempt cannot go better.
    """
    if not may_retry or retry_count + 1 >= max_retries:
        return Event.GIVE_UP
    return Event.RETRY_LATER


def after_death(retry_count: int, max_retries: int) -> Event:
    """Decide for a task whose client died: a poisoned task must not kill clients for ever."""
    if retry_count + 1 >= max_retries:
        return Event.GIVE_UP
    return Event.RETRY_NOW
