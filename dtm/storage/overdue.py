"""What time ends: attempts that took longer than they may, and tasks that nobody began in time.

Each step looks only when something is due, and takes no more than a bounded number; the rest follows in the next
transaction.
"""

from __future__ import annotations

from sqlalchemy import bindparam, func, select, update

from dtm.core.lifecycle import Event, State, next_state
from dtm.storage.attempts import end
from dtm.storage.batch import Failure
from dtm.storage.outcomes import ATTEMPT, Attempt, TimedOut
from dtm.storage.receipt import Ended, Stopped
from dtm.storage.schema import assignments, tasks, waits
from dtm.storage.sql import given
from dtm.storage.transaction import Transaction

MAX_OVERDUE = 1_000

TIMEOUT_ERROR = "TimeoutError"
"""What a timeout is called where failures are judged by their types."""

_OVERDUE = (
    select(*ATTEMPT, tasks.c.timeout)
    .join_from(tasks, assignments, tasks.c.assignment_id == assignments.c.id)
    .where(tasks.c.deadline_at.is_not(None), tasks.c.deadline_at <= bindparam("now"))
    .order_by(tasks.c.deadline_at)
    .limit(MAX_OVERDUE)
)
NEXT_DEADLINE = select(func.min(tasks.c.deadline_at)).where(tasks.c.deadline_at.is_not(None))

_EXPIRES = tasks.c.expires_at.is_not(None) & waits
_EXPIRED = (
    select(tasks.c.id, tasks.c.kind, tasks.c.state)
    .where(_EXPIRES, tasks.c.expires_at <= bindparam("now"))
    .order_by(tasks.c.expires_at)
    .limit(MAX_OVERDUE)
)
_GIVEN = given("id")
_EXPIRE = (
    update(tasks)
    .where(tasks.c.id == _GIVEN.c.id, waits)
    .values(state=next_state(State.PENDING, Event.EXPIRE), finished_at=bindparam("now"))
)
NEXT_EXPIRY = select(func.min(tasks.c.expires_at)).where(_EXPIRES)


def time_out(tx: Transaction) -> None:
    """End the attempts whose deadline has passed, as failures, and have their clients told to stop."""
    deadline_at = tx.sequences.next_deadline_at
    if deadline_at is None or deadline_at > tx.now:
        return
    found = tx.run(_OVERDUE, {"now": tx.now}).fetchall()
    overdue = [(Attempt(*attempt), timeout) for *attempt, timeout in found]
    end(tx, [(attempt, TimedOut(_failure(timeout))) for attempt, timeout in overdue])
    for attempt, _ in overdue:
        tx.receipt.stopped.append(
            Stopped(attempt.client_id, attempt.assignment_id, attempt.task_id, attempt.retry_count, "timeout")
        )
    tx.books.happened("timed out", len(overdue))
    tx.sequences.next_deadline_at = tx.run(NEXT_DEADLINE, {}).fetchall()[0][0]
    tx.receipt.may_have_more |= len(overdue) == MAX_OVERDUE


def _failure(timeout: int) -> Failure:
    return Failure(TIMEOUT_ERROR, f"not over after {timeout / 1_000_000:g} s, which is all it may take")


def expire(tx: Transaction) -> None:
    """End the tasks that nobody began before they expired."""
    expires_at = tx.sequences.next_expiry_at
    if expires_at is None or expires_at > tx.now:
        return
    expired = tx.run(_EXPIRED, {"now": tx.now}).fetchall()
    tx.change(_EXPIRE, [(id,) for id, _, _ in expired])
    for id, kind, state in expired:
        tx.books.move(kind, State(state), State.EXPIRED)
        tx.receipt.ended.append(Ended(id, kind, State.EXPIRED))
    tx.books.happened("expired", len(expired))
    tx.sequences.next_expiry_at = tx.run(NEXT_EXPIRY, {}).fetchall()[0][0]
    tx.receipt.may_have_more |= len(expired) == MAX_OVERDUE
