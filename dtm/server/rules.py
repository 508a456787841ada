"""The rules that a server's settings ask for: how often and when to retry, and who gets a task."""

from __future__ import annotations

import random

from dtm.core.backoff import Backoff
from dtm.core.balance import Balance, LeastLoaded, Random, RoundRobin
from dtm.core.retry import RetryPolicy
from dtm.server.settings import Settings
from dtm.storage.transaction import Policy


def policy_of(settings: Settings, chance: random.Random) -> Policy:
    """Give the rules of retries."""
    backoff = Backoff(*settings.retry_backoff_s)

    def retry_delay(failures: int, policy: RetryPolicy) -> int:
        return int(policy.delay_s(failures, chance.random(), server=backoff) * 1_000_000)

    return Policy(settings.max_retries, retry_delay)


def balance_of(settings: Settings, chance: random.Random) -> Balance:
    """Give the way in which clients are chosen."""
    match settings.balance:
        case "round-robin":
            return RoundRobin()
        case "random":
            return Random(chance)
        case _:
            return LeastLoaded()
