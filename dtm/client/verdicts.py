"""What a handler raises to say how its task goes on."""

from __future__ import annotations

from datetime import timedelta

from dtm.core.durations import seconds_of
from dtm.core.errors import DtmError


class Reject(DtmError):
    """Raised by a handler for a task that can never succeed: it fails without another try."""


class Retry(DtmError):
    """Raised by a handler for a task that failed and is to be tried again `after` so long, whatever its policy says.

    It spends a retry as any failure does. `after` is written as everywhere: `"1m"`, seconds, or a timedelta; without
    it the task's policy says when.

    Raises:
        ValueError: `after` is no duration.
    """

    def __init__(self, after: str | float | timedelta | None = None, reason: str = "") -> None:
        super().__init__(reason or "its handler asked for another try")
        self.after_s = None if after is None else seconds_of(after)


class Snooze(DtmError):
    """Raised by a handler for a task whose time has not come: it goes back for `delay`, without blame.

    Raises:
        ValueError: `delay` is no duration.
    """

    def __init__(self, delay: str | float | timedelta) -> None:
        super().__init__(f"its handler put it off for {delay}")
        self.delay_s = seconds_of(delay)
