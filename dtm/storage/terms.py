"""What a submitter may ask for besides a run: expiry, uniqueness, a retry policy.

Tasks without any of them cost nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct
from sqlalchemy import select, update

from dtm.storage.batch import NewTask, Submission
from dtm.storage.schema import is_active, tasks
from dtm.storage.sql import among, given, values
from dtm.storage.transaction import Transaction

_GIVEN = given("id", "expires_at", "unique_key", "retry")
_SET = (
    update(tasks)
    .where(tasks.c.id == _GIVEN.c.id)
    .values(expires_at=_GIVEN.c.expires_at, unique_key=_GIVEN.c.unique_key, retry=_GIVEN.c.retry)
)
_ACTIVE = select(tasks.c.kind, tasks.c.unique_key, tasks.c.id).where(
    among(tasks.c.unique_key, "keys"), tasks.c.unique_key.is_not(None), is_active
)


class Terms(Struct, frozen=True, gc=False):
    """The terms of one new task."""

    task_id: int
    expires_at: int | None
    unique_key: str | None
    retry: str | None


def terms_of(task_id: int, task: NewTask, now: int) -> Terms:
    """Give the terms of a task that is submitted now."""
    expires_at = task.expires_at if task.expires is None else now + task.expires
    return Terms(task_id, expires_at, task.unique, task.retry)


def write(tx: Transaction, terms: Sequence[Terms]) -> None:
    """Write down the terms of tasks that have just been inserted."""
    tx.change(_SET, [(one.task_id, one.expires_at, one.unique_key, one.retry) for one in terms])
    for one in terms:
        if one.expires_at is not None:
            tx.note_expiry(one.expires_at)


def active_twins(tx: Transaction, submissions: Iterable[Submission]) -> dict[tuple[str, str], int]:
    """Give the tasks that have not ended, by kind and unique key, of which `submissions` may be another."""
    keys = {task.unique for submission in submissions for task in submission.tasks if task.unique is not None}
    return active_by_key(tx, keys) if keys else {}


def active_by_key(tx: Transaction, keys: Iterable[str]) -> dict[tuple[str, str], int]:
    """Give the tasks that have not ended and have one of these unique keys."""
    found = tx.run(_ACTIVE, {"keys": values(sorted(keys))}).fetchall()
    return {(kind, key): id for kind, key, id in found}
