"""What a worker says of a task that has run.

Knows no connection, and keeps nothing.
"""

from __future__ import annotations

import structlog
from msgspec import UNSET

from dtm.client.failures import Failure
from dtm.client.handlers import Returned, Success
from dtm.client.work import Work
from dtm.protocol import messages
from dtm.protocol.messages import Release, Result

log = structlog.get_logger()


def report(work: Work) -> Result | Release:
    """Put into a message how `work` has ended; what is no success is logged too."""
    outcome = work.outcome
    assert outcome is not None
    match outcome:
        case Success(value):
            return Result(task_id=work.task_id, assignment=work.assignment, ok=True, value=value)
        case Failure():
            return _failed(work, outcome)
        case Returned(delay_s):
            if delay_s is not None:
                log.info("task.snoozed", task=work.task_id, kind=work.handler.kind, delay_s=delay_s)
            return Release(work.task_id, work.assignment, delay_s)


def cancelled(work: Work) -> Result:
    """Give the answer for a task that was cancelled before it began."""
    return _failed(work, Failure("Cancelled", "the task was cancelled before it began", "", retry=False))


def _failed(work: Work, failed: Failure) -> Result:
    log.info("task.failed", task=work.task_id, kind=work.handler.kind, error=f"{failed.type}: {failed.message}")
    error = messages.Failure(failed.type, failed.message, failed.traceback, list(failed.bases) or UNSET)
    return Result(
        task_id=work.task_id,
        assignment=work.assignment,
        ok=False,
        error=error,
        retry=failed.retry,
        after=failed.after_s,
    )
