"""What an operator does with dead letters: let them run again, or clear them away. Both are recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Select, bindparam, delete, func, select, true, update

from dtm.core import auditline
from dtm.core.lifecycle import Event, State, next_state
from dtm.storage import terms
from dtm.storage.batch import Clear, Reprocess, Selection
from dtm.storage.receipt import Resolved
from dtm.storage.schema import assignments, dead_letters, is_in, tasks
from dtm.storage.sql import AnyRow, among, given, those, values
from dtm.storage.transaction import Transaction

MAX_CHARACTERS = 32 * 1024 * 1024
"""Payloads that one command reads at most; the letters it leaves over are among its `left`."""

_GIVEN = given("id", "unique_key")
_REPROCESS = (
    update(tasks)
    .where(tasks.c.id == _GIVEN.c.id, is_in(State.DEAD))
    .values(
        state=next_state(State.DEAD, Event.REPROCESS),
        retry_count=0,
        finished_at=None,
        run_at=None,
        expires_at=None,
        progress=None,
        unique_key=_GIVEN.c.unique_key,
    )
)
_DELETE_ATTEMPTS = delete(assignments).where(among(assignments.c.task_id, "ids"))
_DELETE = delete(tasks).where(tasks.c.id.in_(select(_GIVEN.c.id)), is_in(State.DEAD))
_SETTLED = given("id", "resolution")
_RESOLVE = (
    update(dead_letters)
    .where(dead_letters.c.id == _SETTLED.c.id, dead_letters.c.resolved_at.is_(None))
    .values(resolved_at=bindparam("now"), resolution=_SETTLED.c.resolution)
)


def is_selected(selection: Selection) -> ColumnElement[bool]:
    """Say which open dead letters `selection` means."""
    conditions: list[ColumnElement[bool]] = [dead_letters.c.resolved_at.is_(None)]
    if selection.ids is not None:
        conditions.append(dead_letters.c.task_id.in_(those(selection.ids)))
    if selection.kind is not None:
        conditions.append(dead_letters.c.kind == selection.kind)
    if selection.error is not None:
        # Both sides by the database's idea of lower case: Python's knows more letters, and would never meet it.
        conditions.append(func.instr(func.lower(dead_letters.c.error), func.lower(selection.error)) > 0)
    if selection.died_before is not None:
        conditions.append(dead_letters.c.died_at <= selection.died_before)
    if selection.through is not None:
        conditions.append(dead_letters.c.id <= selection.through)
    return ~true() if selection.is_empty else _all_of(conditions)


def how_many(selection: Selection) -> Select[int, int | None]:
    """Count what `selection` means, and give the newest letter's id."""
    return select(func.count(), func.max(dead_letters.c.id)).where(is_selected(selection))


def carry_out(tx: Transaction, command: Reprocess | Clear) -> None:
    """Carry out a command on at most as many letters as its limit says."""
    letters = _letters(tx, command)
    if isinstance(command, Reprocess):
        _reprocess(tx, letters)
    else:
        _clear(tx, letters)
    left: int = tx.connection.execute(how_many(command.selection)).one()[0]
    tx.receipt.commands.append(Resolved(len(letters), left))


def clear_old(tx: Transaction, task_ids: Sequence[int]) -> None:
    """Clear the dead letters of these dead tasks, as they have stayed for as long as they were to."""
    _clear(tx, _letters(tx, Clear(Selection(ids=tuple(task_ids)), len(task_ids))), why="retention")


def _all_of(conditions: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    whole = conditions[0]
    for condition in conditions[1:]:
        whole = whole & condition
    return whole


def _letters(tx: Transaction, command: Reprocess | Clear) -> list[AnyRow]:
    statement = (
        select(
            dead_letters.c.id,
            dead_letters.c.task_id,
            dead_letters.c.kind,
            dead_letters.c.error,
            tasks.c.payload,
            tasks.c.retry_count,
            tasks.c.unique_key,
        )
        .join(tasks, tasks.c.id == dead_letters.c.task_id)
        .where(is_selected(command.selection))
        .order_by(dead_letters.c.id)
        .limit(command.limit)
    )
    letters: list[AnyRow] = []
    size = 0
    with tx.connection.execute(statement) as found:
        for letter in found:
            letters.append(letter)
            size += len(letter.payload)
            if size > MAX_CHARACTERS:
                break
    return letters


def _reprocess(tx: Transaction, letters: Sequence[AnyRow]) -> None:
    tx.change(
        _REPROCESS, [(letter.task_id, key) for letter, key in zip(letters, _unique_keys(tx, letters), strict=True)]
    )
    _resolve(tx, letters, "reprocessed")
    for letter in letters:
        tx.books.move(letter.kind, State.DEAD, State.PENDING)


def _unique_keys(tx: Transaction, letters: Sequence[AnyRow]) -> Iterator[str | None]:
    """Give the unique key that each task keeps: none if another has it by now, for the operator's word comes first."""
    wanted = {letter.unique_key for letter in letters if letter.unique_key is not None}
    taken = set(terms.active_by_key(tx, wanted)) if wanted else set()
    for letter in letters:
        key = (letter.kind, letter.unique_key)
        yield None if key in taken else letter.unique_key
        taken.add(key)


def _clear(tx: Transaction, letters: Sequence[AnyRow], **more: str) -> None:
    tx.connection.execute(_DELETE_ATTEMPTS, {"ids": values(letter.task_id for letter in letters)})
    tx.change(_DELETE, [(letter.task_id, None) for letter in letters])
    _resolve(tx, letters, "cleared", **more)
    for letter in letters:
        tx.books.move(letter.kind, State.DEAD, State.CLEARED)


def _resolve(tx: Transaction, letters: Sequence[AnyRow], as_what: str, **more: str) -> None:
    tx.change(_RESOLVE, [(letter.id, as_what) for letter in letters])
    for letter in letters:
        fields = {
            "task": letter.task_id,
            "kind": letter.kind,
            **auditline.quote_payload(letter.payload),
            "retry_count": letter.retry_count,
            "error": letter.error,
            **more,
        }
        tx.record(as_what, fields)
    tx.books.happened(as_what, len(letters))
