"""What a worker says of a task: how far it has got, and how it has ended.

Knows no connection and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from msgspec import UNSET

from dtm.client.failures import Failure
from dtm.client.handlers import Returned, Success
from dtm.client.work import Work
from dtm.protocol import messages
from dtm.protocol.messages import Progress, Release, Result

# Nobody reads faster; and what nobody has read yet is not worth a write to the server's disk.
PROGRESS_S = 0.5

log = structlog.get_logger()


def news(works: Iterable[Work], now_s: float) -> list[Progress]:
    """Tell how far tasks have got: each one's last word, if it is new, at most one in `PROGRESS_S` seconds."""
    return [_progress(work, now_s) for work in works if is_news(work) and now_s - work.told_s >= PROGRESS_S]


def last_news(work: Work) -> Progress:
    """Tell how far a task had got that has ended."""
    return _progress(work, work.told_s)


def report(work: Work) -> Result | Release:
    """Put into a message how `work` has ended; what is no success is logged too."""
    outcome = work.outcome
    assert outcome is not None
    match outcome:
        case Success():
            return Result(work.task_id, work.assignment, True, outcome.value)
        case Failure():
            return _failed(work, outcome)
        case Returned():
            if outcome.delay_s is not None:
                log.info("task.snoozed", task=work.task_id, kind=work.handler.kind, delay_s=outcome.delay_s)
            return Release(work.task_id, work.assignment, outcome.delay_s)


def is_news(work: Work) -> bool:
    """Whether a task has said something of its progress that the server was not told."""
    return work.current.latest is not work.told


def _progress(work: Work, now_s: float) -> Progress:
    latest = work.current.latest
    assert latest is not None
    work.told, work.told_s = latest, now_s
    return Progress(work.task_id, work.assignment, *latest)


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
