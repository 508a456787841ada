"""A task in a worker's hands: what it is, who asked it to stop, and how it ended.

Knows no server, no threads and no event loop.
"""

from __future__ import annotations

from math import inf
from typing import Literal

from dtm.client.current import CurrentTask
from dtm.client.failures import Failure
from dtm.client.handlers import Handler, Outcome, Returned, Success

StopReason = Literal["cancelled", "timeout", "shutdown"]


class Work:
    """A task that is to run, runs, or has run."""

    def __init__(
        self,
        task_id: int,
        assignment: int,
        handler: Handler,
        payload: bytes,
        *,
        attempt: int = 1,
        timeout_s: float | None = None,
    ) -> None:
        self.task_id = task_id
        self.assignment = assignment
        self.handler = handler
        self.payload = payload
        self.timeout_s = timeout_s
        self.begun_s = 0.0
        self.took_s = 0.0
        self.outcome: Outcome | None = None
        self.stop_reason: StopReason | None = None
        self.told: tuple[float | None, str] | None = None
        """The last that the server was told of its progress, and when."""
        self.told_s = -inf
        self.current = CurrentTask(task_id, handler.kind, attempt)

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
