"""A task in a worker's hands: what it is, who asked it to stop, and how it ended.

Knows no server, no threads and no event loop.
"""

from __future__ import annotations

from math import inf
from typing import Literal

from msgspec import Struct

from dtm.client.current import CurrentTask
from dtm.client.failures import Failure
from dtm.client.handlers import Handler, Outcome, Returned, Success

StopReason = Literal["cancelled", "timeout", "shutdown"]


class Work(Struct, eq=False):
    """A task that is to run, runs, or has run."""

    assignment: int
    handler: Handler
    payload: bytes
    current: CurrentTask
    timeout_s: float | None = None
    begun_s: float = 0.0
    took_s: float = 0.0
    outcome: Outcome | None = None
    stop_reason: StopReason | None = None
    told: tuple[float | None, str] | None = None
    """The last that the server was told of its progress, and when."""
    told_s: float = -inf

    @property
    def task_id(self) -> int:
        """Which task it is."""
        return self.current.id

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended."""
        return self.begun_s > 0 and self.outcome is None

    def ask_to_stop(self, reason: StopReason) -> None:
        """Note why it is to stop; the first reason counts."""
        if self.stop_reason is None:
            self.stop_reason = reason
        self.current.cancel_requested = True

    def end(self, outcome: Outcome) -> None:
        """Note how it ended. Whoever was asked to stop and came to nothing has stopped; a success is a success."""
        if self.stop_reason is not None and not isinstance(outcome, Success):
            outcome = _stopped(self, outcome)
        self.outcome = outcome


def _stopped(work: Work, outcome: Outcome) -> Outcome:
    if work.stop_reason == "shutdown":
        return Returned()
    traceback = outcome.traceback if isinstance(outcome, Failure) else ""
    if work.stop_reason == "cancelled":
        return Failure("Cancelled", "the task was cancelled while it ran", traceback, retry=False)
    limit = "" if work.timeout_s is None else f" of {work.timeout_s:g} s"
    message = f"the task ran longer than its timeout{limit}"
    return Failure("TimeoutError", message, traceback, retry=True, bases=("OSError",))
