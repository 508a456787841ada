"""How an attempt went, and what that means for its task: judged here, carried out elsewhere."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from dtm.core import retry
from dtm.core.lifecycle import Event, State, next_state
from dtm.core.retry import AS_THE_SERVER, RetryPolicy
from dtm.storage.batch import Failed, Failure, Released, Success
from dtm.storage.schema import assignments, tasks


class Attempt(Struct, frozen=True, gc=False):
    """A live assignment, with what is needed of its task to end it."""

    assignment_id: int
    task_id: int
    client_id: int
    kind: str
    retry_count: int
    max_retries: int
    retry: str | None = None
    cancel_requested_at: int | None = None
    expires_at: int | None = None

    @property
    def policy(self) -> RetryPolicy:
        """The task's own retry policy, or the server's."""
        return AS_THE_SERVER if self.retry is None else _POLICY.decode(self.retry)


_POLICY = msgspec.json.Decoder(RetryPolicy)

ATTEMPT = (
    assignments.c.id,
    assignments.c.task_id,
    assignments.c.client_id,
    tasks.c.kind,
    tasks.c.retry_count,
    tasks.c.max_retries,
    tasks.c.retry,
    tasks.c.cancel_requested_at,
    tasks.c.expires_at,
)
"""What an `Attempt` holds, in its order."""


class Died(Struct, frozen=True):
    """The client is gone, and its task with it."""

    failure: Failure


class TimedOut(Struct, frozen=True):
    """The attempt took longer than it may."""

    failure: Failure


Lost = Failed | Died | TimedOut
Outcome = Success | Released | Lost


class Ending(Struct, frozen=True, gc=False):
    """An attempt, how it ended, and what that does to its task."""

    attempt: Attempt
    outcome: Outcome
    event: Event

    @property
    def state(self) -> State:
        """Where the task stands now."""
        return next_state(State.ASSIGNED, self.event)


def event_of(attempt: Attempt, outcome: Outcome) -> Event:
    """Say what the end of `attempt` is for its task."""
    match outcome:
        case Success():
            return Event.SUCCEED
        case _ if attempt.cancel_requested_at is not None:
            return Event.CANCEL
        case Released():
            return Event.SNOOZE if outcome.delay else Event.RELEASE
        case Failed() | TimedOut():
            may_retry = _may_retry(attempt, outcome)
            return retry.after_failure(attempt.retry_count, attempt.max_retries, may_retry=may_retry)
        case Died():
            return retry.after_death(attempt.retry_count, attempt.max_retries)


# As in Python, where a TimeoutError is an OSError.
_TIMEOUT_IS = ("OSError",)


def _may_retry(attempt: Attempt, outcome: Failed | TimedOut) -> bool:
    if isinstance(outcome, TimedOut):
        return attempt.policy.tries_again([outcome.failure.type, *_TIMEOUT_IS])
    if outcome.after is not None or not outcome.may_retry:
        # The worker knows better than any policy.
        return outcome.may_retry
    return attempt.policy.tries_again([outcome.failure.type, *outcome.bases])


def reason_of(ending: Ending) -> str:
    """Say in a word why the attempt is lost."""
    match ending.outcome:
        case Died():
            return "died"
        case TimedOut():
            return "timed out"
        case Failed() as outcome if not _may_retry(ending.attempt, outcome):
            return "rejected"
        case _:
            return "failed"
