"""How long tasks that have ended stay, and how they go: found by a reader, taken out by the writer in small pieces.

No index serves this, as each would cost every task a write. Tasks are numbered in the order in which they came, so a
look goes up the numbers, and is over at the first task that came so late that its time cannot be over yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import ColumnElement, and_, bindparam, case, delete, func, or_, select

from dtm.core.lifecycle import State
from dtm.storage import deadletters
from dtm.storage.batch import Cutoffs, Prune
from dtm.storage.reader import Reader
from dtm.storage.receipt import Resolved
from dtm.storage.schema import assignments, is_in, tasks
from dtm.storage.sql import among, values
from dtm.storage.transaction import Transaction

MAX_PRUNED = 200
MAX_ATTEMPTS = 2 * MAX_PRUNED
"""Bounds of one piece, so that a commit that it is part of takes a few milliseconds longer at most."""

ENDED_TIMES = 2
"""Where many tasks end in one commit, so many times as many go with it: as much leaves the store as comes into it.

Once as many would not do: while a look goes on, commits pass without a piece.
"""

MAX_FOUND = 5 * MAX_PRUNED
MAX_CHARACTERS = 2 * 1024 * 1024
"""Bounds of what one look finds."""

MAX_LOOKED_AT = 2_000
"""Tasks that one look passes by: its moment of the database must be short, or the write-ahead log grows."""

# No task ended before this.
_NEVER = -(2**63)


class Retention(Struct, frozen=True):
    """For how long tasks stay once they have ended, by how they ended (microseconds); None: for ever."""

    completed: int | None
    cancelled: int | None
    dead: int | None

    @property
    def shortest(self) -> int | None:
        """The time after which the first tasks go; None if none ever do."""
        return min((age for age in (self.completed, self.cancelled, self.dead) if age is not None), default=None)

    def cutoffs(self, now: int) -> Cutoffs:
        """Say which tasks have stayed long enough at `now` (UTC microseconds)."""
        ages = (self.completed, self.cancelled, self.dead)
        return Cutoffs(now, *(_NEVER if age is None else now - age for age in ages))


class Outlived(Struct, frozen=True):
    """The tasks that one look found to go, and the number from which the next goes on (None: it was the last)."""

    ids: tuple[int, ...]
    looked_to: int | None


def _has_outlived() -> ColumnElement[bool]:
    return or_(
        and_(is_in(State.COMPLETED), tasks.c.finished_at <= bindparam("completed_before")),
        and_(or_(is_in(State.CANCELLED), is_in(State.EXPIRED)), tasks.c.finished_at <= bindparam("cancelled_before")),
        and_(is_in(State.DEAD), tasks.c.finished_at <= bindparam("dead_before")),
    )


# One that came after now tells of a clock that was wrong, and nothing about those behind it.
_IS_YOUNG = and_(tasks.c.created_at > bindparam("latest"), tasks.c.created_at <= bindparam("now"))
_LOOK = (
    select(
        tasks.c.id,
        case((_has_outlived(), 1), else_=0),
        case((_IS_YOUNG, 1), else_=0),
        func.length(tasks.c.payload) + func.coalesce(func.length(tasks.c.result), 0),
    )
    .where(tasks.c.id > bindparam("after"))
    .order_by(tasks.c.id)
    .limit(MAX_LOOKED_AT)
)

_NAMED = select(tasks.c.id, tasks.c.kind, tasks.c.state).where(among(tasks.c.id, "ids"))
_DUE = _NAMED.where(_has_outlived())
# In the order of their index; the last of a task's attempts tells how it ended.
_ATTEMPTS = (
    select(assignments.c.task_id, assignments.c.id)
    .where(among(assignments.c.task_id, "ids"))
    .order_by(assignments.c.task_id, assignments.c.id)
    .limit(bindparam("most"))
)
_DELETE_ATTEMPTS = delete(assignments).where(among(assignments.c.id, "ids"))
_DELETE = delete(tasks).where(among(tasks.c.id, "ids"))


def look(reader: Reader, cutoffs: Cutoffs, *, after: int) -> Outlived:
    """Look for tasks to take out, from the one after number `after` on; as many as go in a few pieces."""
    ids: list[int] = []
    looked_at = size = 0
    parameters = {**_parameters(cutoffs), "latest": cutoffs.latest, "now": cutoffs.at, "after": after}
    with reader.each(_LOOK, parameters) as rows:
        for id, is_due, is_young, characters in rows:
            if is_young:
                return Outlived(tuple(ids), None)
            looked_at += 1
            size += characters
            if is_due:
                ids.append(id)
            if looked_at == MAX_LOOKED_AT or len(ids) == MAX_FOUND or size > MAX_CHARACTERS:
                return Outlived(tuple(ids), id)
    return Outlived(tuple(ids), None)


def prune(tx: Transaction, prunings: Sequence[Prune]) -> None:
    """Take out the named tasks with their attempts, if their time is over, the first of them: one piece.

    What is left is the last of them.
    """
    for pruning in prunings:
        most = max(MAX_PRUNED, ENDED_TIMES * len(tx.receipt.ended))
        piece = pruning.ids[:most]
        found = tx.run(_DUE, {"ids": values(piece), **_parameters(pruning.cutoffs)}).fetchall()
        due = {id: (kind, State(state)) for id, kind, state in found}
        gone = _take_attempts(tx, sorted(due), most=MAX_ATTEMPTS * most // MAX_PRUNED)
        _take_tasks(tx, {id: due[id] for id in gone})
        stay = due.keys() - gone
        settled = next((place for place, id in enumerate(piece) if id in stay), len(piece))
        tx.receipt.prunings.append(Resolved(len(gone), len(pruning.ids) - settled))


def _parameters(cutoffs: Cutoffs) -> dict[str, int]:
    return {
        "completed_before": cutoffs.completed,
        "cancelled_before": cutoffs.cancelled,
        "dead_before": cutoffs.dead,
    }


def _take_attempts(tx: Transaction, ids: Sequence[int], *, most: int) -> list[int]:
    """Delete attempts, the oldest first, and give the tasks that have none left."""
    attempts = list(tx.run(_ATTEMPTS, {"ids": values(ids), "most": most}).fetchall())
    gone = list(ids)
    if len(attempts) == most:
        # Of the last task there may be more. Its latest stays with it to the end, as it tells how it ended.
        unfinished, _ = attempts.pop()
        gone = [id for id in ids if id < unfinished]
    numbers = [number for _, number in attempts]
    deleted = tx.run(_DELETE_ATTEMPTS, {"ids": values(numbers)}).rowcount
    tx.require(len(numbers), deleted, _DELETE_ATTEMPTS)
    return gone


def _take_tasks(tx: Transaction, due: dict[int, tuple[str, State]]) -> None:
    dead = [id for id, (_, state) in due.items() if state is State.DEAD]
    if dead:
        deadletters.clear_old(tx, dead)
    ids = due.keys() - dead
    deleted = tx.run(_DELETE, {"ids": values(ids)}).rowcount
    tx.require(len(ids), deleted, _DELETE)
    for (kind, state), times in Counter(due[id] for id in ids).items():
        tx.books.move(kind, state, State.CLEARED, times)
    tx.books.happened("pruned", len(ids))
