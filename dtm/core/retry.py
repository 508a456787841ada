"""What a lost attempt costs: another try, or the dead-letter queue.

Knows no clock and no chance: both come in as arguments.
"""

from __future__ import annotations

from dtm.core.lifecycle import Event


def after_failure(retry_count: int, max_retries: int, *, may_retry: bool) -> Event:
    """Decide for a task whose handler failed, when `retry_count` attempts had failed before.

    The third failed attempt of a task with `max_retries` 3 is its last. `may_retry` is the worker's word: false where
    another attempt cannot go better.
    """
    if not may_retry or retry_count + 1 >= max_retries:
        return Event.GIVE_UP
    return Event.RETRY_LATER


def after_death(retry_count: int, max_retries: int) -> Event:
    """Decide for a task whose client died: a poisoned task must not kill clients for ever."""
    if retry_count + 1 >= max_retries:
        return Event.GIVE_UP
    return Event.RETRY_NOW
