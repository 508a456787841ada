"""How many tasks a worker holds beyond those it runs.

Knows no clock: durations come in. Short tasks want a store beside the worker, or each would wait for a round trip; long
tasks must not be hoarded while another worker is idle.
"""

from __future__ import annotations

import math
from typing import Protocol

# A store that lasts this long hides the way to the server and back, and the disk's work on it.
AHEAD_S = 0.1
MOST_AHEAD = 1_000

# How much a new measurement counts against the ones before.
_WEIGHT = 0.2


class Prefetch(Protocol):
    """A rule for how far ahead to fetch."""

    @property
    def patience_s(self) -> float:
        """How long what is held may wait without any slot taking it; then it goes back to the server."""

    def ran(self, tasks: int, busy_s: float) -> None:
        """Learn that `tasks` runs took `busy_s` seconds of work together."""

    def ahead(self, concurrency: int) -> int:
        """Say how many tasks to hold beyond `concurrency` running ones."""


class FixedPrefetch:
    """Always as many as the user said."""

    patience_s = math.inf

    def __init__(self, tasks: int) -> None:
        self._tasks = tasks

    def ran(self, tasks: int, busy_s: float) -> None:
        """Learn nothing."""

    def ahead(self, concurrency: int) -> int:
        """Give the number."""
        return self._tasks


class AutoPrefetch:
    """As many as the recent ones took a moment to run: none for long tasks, a store for short ones."""

    patience_s = 1.0

    def __init__(self) -> None:
        self._mean_s: float | None = None

    def ran(self, tasks: int, busy_s: float) -> None:
        """Bring the mean of a task's run up to date."""
        mean_s = busy_s / tasks
        if self._mean_s is None or mean_s > AHEAD_S:
            # A long task counts at once: what is held behind it must go back.
            self._mean_s = mean_s
        else:
            self._mean_s += _WEIGHT * (mean_s - self._mean_s)

    def ahead(self, concurrency: int) -> int:
        """Give what all slots together run in a moment."""
        if self._mean_s is None:
            return 0
        return min(MOST_AHEAD, int(concurrency * AHEAD_S / max(self._mean_s, 1e-9)))
