"""Who gets what: pending tasks, and those just taken, go to the clients that have room for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, insert, select, update

from dtm.core.balance import Balance, Seat
from dtm.core.lifecycle import State
from dtm.storage.claim import MAX_ASSIGNED, MAX_ASSIGNED_CHARACTERS, claim
from dtm.storage.intake import Fresh, Taken, enter
from dtm.storage.receipt import Assigned
from dtm.storage.schema import assignments, tasks
from dtm.storage.sql import given
from dtm.storage.transaction import Transaction

_GIVEN = given("id", "task_id", "client_id")
_INSERT = insert(assignments).from_select(
    ["id", "task_id", "client_id", "assigned_at"], select(*_GIVEN.c, bindparam("now"))
)

_DEADLINE = given("task_id", "at")
_BOUND = update(tasks).where(tasks.c.id == _DEADLINE.c.task_id).values(deadline_at=_DEADLINE.c.at)


def assign(tx: Transaction, taken: Taken, seats: Sequence[Seat], balance: Balance) -> None:
    """Insert what was taken, and give what is pending to clients with room.

    The last step of a transaction: what became pending after it would wait for the next.
    """
    room = _room_by_kind(seats)
    if room.keys() & tx.waiting():
        enter(tx, taken)
        _hand_out(tx, claim(tx, room, seats, balance))
    elif taken.fresh:
        # Nothing stands before what was taken: it can be given out before it is in the table.
        assigned = _first_come(tx, _ready(tx, taken, room), seats, balance)
        enter(tx, taken)
        _hand_out(tx, assigned)


def _room_by_kind(seats: Sequence[Seat]) -> dict[str, int]:
    room: dict[str, int] = {}
    for seat in seats:
        if seat.free > 0:
            for kind in seat.kinds:
                room[kind] = min(MAX_ASSIGNED, room.get(kind, 0) + seat.free)
    return room


def _ready(tx: Transaction, taken: Taken, room: Mapping[str, int]) -> list[Fresh]:
    """Give what may be run now, the highest priority and then the oldest first."""
    expired = {one.task_id for one in taken.terms if one.expires_at is not None and one.expires_at <= tx.now}
    ready = [
        task for task in taken.fresh if task.state is State.PENDING and task.kind in room and task.id not in expired
    ]
    return sorted(ready, key=lambda task: (-task.priority, task.id))


def _first_come(tx: Transaction, ready: Sequence[Fresh], seats: Sequence[Seat], balance: Balance) -> list[Assigned]:
    first = _within_bounds(ready)
    tx.receipt.may_have_more |= len(first) < len(ready)
    chosen = balance.choose([task.kind for task in first], seats)
    return [_assigned(tx, task, client) for task, client in zip(first, chosen, strict=True) if client is not None]


def _within_bounds(ready: Sequence[Fresh]) -> Sequence[Fresh]:
    size = 0
    for number, task in enumerate(ready[:MAX_ASSIGNED]):
        size += len(task.payload)
        if size > MAX_ASSIGNED_CHARACTERS:
            return ready[: number + 1]
    return ready[:MAX_ASSIGNED]


def _assigned(tx: Transaction, task: Fresh, client_id: int) -> Assigned:
    task.state, task.assignment_id = State.ASSIGNED, tx.take_assignment_id()
    return Assigned(client_id, task.assignment_id, task.id, task.kind, task.payload, 0, task.timeout)


def _hand_out(tx: Transaction, assigned: Sequence[Assigned]) -> None:
    tx.change(_INSERT, [(task.assignment_id, task.task_id, task.client_id) for task in assigned])
    bounded = [(task.task_id, tx.now + task.timeout) for task in assigned if task.timeout is not None]
    tx.change(_BOUND, bounded)
    for _, deadline_at in bounded:
        tx.note_deadline(deadline_at)
    tx.receipt.assigned.extend(assigned)
