"""What running tasks say of how far they have come; only the last word is kept, and only the current attempt's."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from sqlalchemy import update

from dtm.core.lifecycle import State
from dtm.storage.batch import Progress
from dtm.storage.receipt import Progressed
from dtm.storage.schema import is_in, tasks
from dtm.storage.sql import given, rows
from dtm.storage.transaction import Transaction

_GIVEN = given("assignment_id", "task_id", "progress")
# By the task's own number, for that has an index; an attempt that is not its current one changes nothing.
_NOTE = (
    update(tasks)
    .where(
        tasks.c.id == _GIVEN.c.task_id,
        tasks.c.assignment_id == _GIVEN.c.assignment_id,
        is_in(State.ASSIGNED),
    )
    .values(progress=_GIVEN.c.progress)
    .returning(tasks.c.id, tasks.c.retry_count, tasks.c.progress, tasks.c.cancel_requested_at)
)


def note(tx: Transaction, progress: Mapping[tuple[int, int], Progress]) -> None:
    """Write down the last word on each assignment and its task."""
    if not progress:
        return
    items = [(assignment, task, _text(its)) for (assignment, task), its in progress.items()]
    changed = tx.run(_NOTE, {"rows": rows(items)}).fetchall()
    for task_id, retry_count, text, requested_at in changed:
        tx.receipt.progressed.append(Progressed(task_id, retry_count, read(text), requested_at is not None))


def read(text: str | None) -> Progress:
    """Read what is kept with a task; one that has said nothing has said nothing of everything."""
    return Progress() if text is None else msgspec.json.decode(text, type=Progress)


def _text(progress: Progress) -> str:
    return msgspec.json.encode(progress).decode()
