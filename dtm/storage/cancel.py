"""Tasks that nobody needs any more: those that wait end here, those that run are asked to stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from sqlalchemy import BindParameter, ColumnElement, bindparam, func, literal_column, select, update

from dtm.core.lifecycle import Event, State, next_state
from dtm.storage.batch import Cancel, Cancellation, TaskSelection
from dtm.storage.progress import read
from dtm.storage.receipt import Cancelled, Ended, Resolved, Stopped
from dtm.storage.schema import assignments, is_in, tasks, waits
from dtm.storage.sql import AnyRow, AnySelect, among, given, those, values
from dtm.storage.transaction import Transaction

_WAITING = (State.SCHEDULED, State.PENDING)
ACTIVE = (*_WAITING, State.ASSIGNED)
"""The states that a cancellation can change."""

_COLUMNS = (tasks.c.id, tasks.c.kind, tasks.c.state, tasks.c.retry_count, tasks.c.assignment_id, tasks.c.progress)
_NAMED = (
    select(*_COLUMNS, assignments.c.client_id)
    .join_from(tasks, assignments, assignments.c.id == tasks.c.assignment_id, isouter=True)
    .where(among(tasks.c.id, "ids"))
)
_GIVEN = given("id")
_NOW: BindParameter[int] = bindparam("now")
_END = (
    update(tasks)
    .where(tasks.c.id == _GIVEN.c.id, waits)
    .values(state=next_state(State.PENDING, Event.CANCEL), finished_at=_NOW, cancel_requested_at=_NOW)
)
_ASK = (
    update(tasks)
    .where(tasks.c.id == _GIVEN.c.id, is_in(State.ASSIGNED))
    .values(cancel_requested_at=func.coalesce(tasks.c.cancel_requested_at, _NOW))
)


def cancel(tx: Transaction, cancellations: Sequence[Cancellation]) -> None:
    """Cancel the tasks of each cancellation that have not ended."""
    for cancellation in cancellations:
        found = {row[0]: row for row in _named(tx, cancellation.ids)}
        _cancel(tx, list(found.values()))
        tx.receipt.cancellations.append(Cancelled([_state_now(found.get(id)) for id in cancellation.ids]))


def carry_out(tx: Transaction, command: Cancel) -> None:
    """Carry out an operator's command on at most as many tasks as its limit says."""
    # One more than wanted tells whether that was all.
    ids = [row[0] for row in islice(_selected(tx, command.selection, command.limit + 1), command.limit + 1)]
    chosen = ids[: command.limit]
    _cancel(tx, _named(tx, chosen))
    tx.receipt.commands.append(Resolved(len(chosen), len(ids) - len(chosen)))


def selected(selection: TaskSelection, state: str) -> AnySelect:
    """Select what `selection` means among the tasks in `state`, by the index that has these tasks alone."""
    statement: AnySelect = select(tasks.c.id)
    if state == State.ASSIGNED:
        live = assignments.c.finished_at.is_(None)
        statement = statement.join_from(assignments, tasks, tasks.c.id == assignments.c.task_id).where(live)
    if selection.is_empty or selection.state not in (None, state):
        return statement.where(literal_column("0"))
    return statement.where(is_in(state), tasks.c.cancel_requested_at.is_(None), *_conditions(selection))


def _conditions(selection: TaskSelection) -> Iterator[ColumnElement[bool]]:
    if selection.ids is not None:
        yield tasks.c.id.in_(those(selection.ids))
    if selection.kind is not None:
        yield tasks.c.kind == selection.kind
    if selection.created_before is not None:
        yield tasks.c.created_at <= selection.created_before
    if selection.through is not None:
        # A sum, so that SQLite does not go by the number: it would pass all tasks that have ended, in every slice.
        yield tasks.c.id + 0 <= selection.through


def _selected(tx: Transaction, selection: TaskSelection, most: int) -> Iterator[AnyRow]:
    for state in ACTIVE:
        yield from tx.connection.execute(selected(selection, state).limit(most)).all()


def _named(tx: Transaction, ids: Sequence[int]) -> Sequence[AnyRow]:
    return tx.run(_NAMED, {"ids": values(ids)}).fetchall()


def _cancel(tx: Transaction, rows: Sequence[AnyRow]) -> None:
    waiting = [row for row in rows if row[2] in _WAITING]
    running = [row for row in rows if row[2] == State.ASSIGNED]
    tx.change(_END, [(row[0],) for row in waiting])
    tx.change(_ASK, [(row[0],) for row in running])
    for id, kind, state, *_ in waiting:
        tx.books.move(kind, State(state), State.CANCELLED)
        tx.receipt.ended.append(Ended(id, kind, State.CANCELLED))
    for id, _, _, retry_count, assignment_id, text, client_id in running:
        tx.receipt.stopped.append(Stopped(client_id, assignment_id, id, retry_count, "cancelled", read(text)))
    tx.books.happened("cancelled", len(waiting))


def _state_now(row: AnyRow | None) -> str | None:
    if row is None:
        return None
    state: str = row[2]
    return State.CANCELLED if state in _WAITING else state
