"""Scheduled tasks fall due, and pending ones are claimed for the clients that have room for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, func, select, union_all, update

from dtm.core.balance import Balance, Seat
from dtm.core.lifecycle import State
from dtm.storage.receipt import Assigned
from dtm.storage.schema import is_in, tasks
from dtm.storage.sql import AnyRow, given, rows
from dtm.storage.transaction import Transaction

MAX_DUE = 1_000
MAX_ASSIGNED = 2_000
MAX_ASSIGNED_CHARACTERS = 32 * 1024 * 1024
"""Bounds of one transaction, so that no commit waits for a flood; what is left over follows in the next."""

# So many payloads are read at once: few enough that the bound above holds almost to the letter.
_FETCHED = 16

# SQLite takes at most 500 SELECTs in a UNION.
_MAX_HEADS = 250
_NOTHING = ("", 0)  # a kind and how many of it: no kind is empty

_IS_DUE = is_in(State.SCHEDULED) & (tasks.c.run_at <= bindparam("now"))
_DUE = select(tasks.c.id, tasks.c.kind).where(_IS_DUE).order_by(tasks.c.run_at).limit(MAX_DUE)
_RIPE = given("id")
_PROMOTE = update(tasks).where(tasks.c.id == _RIPE.c.id, is_in(State.SCHEDULED)).values(state=State.PENDING)
_NEXT_DUE = select(func.min(tasks.c.run_at)).where(is_in(State.SCHEDULED))

# From the given ids to their tasks: so the rows come in that order, and a bound leaves out the last.
_CHOSEN = given("id")
_DETAILS = (
    select(tasks.c.id, tasks.c.kind, tasks.c.payload, tasks.c.retry_count, tasks.c.timeout)
    .join_from(_CHOSEN, tasks, tasks.c.id == _CHOSEN.c.id)
    # What has expired is about to be ended, however much of it there is.
    .where(tasks.c.expires_at.is_(None) | (tasks.c.expires_at > bindparam("now")))
)
_GIVEN = given("id", "task_id")
_ASSIGN = (
    update(tasks)
    .where(tasks.c.id == _GIVEN.c.task_id, is_in(State.PENDING))
    .values(state=State.ASSIGNED, assignment_id=_GIVEN.c.id)
)


def fall_due(tx: Transaction) -> None:
    """Make the scheduled tasks whose time has come pending."""
    due_at = tx.sequences.next_due_at
    if due_at is None or due_at > tx.now:
        return
    due = tx.run(_DUE, {"now": tx.now}).fetchall()
    tx.change(_PROMOTE, [(id,) for id, _ in due])
    for _, kind in due:
        tx.books.move(kind, State.SCHEDULED, State.PENDING)
    tx.sequences.next_due_at = tx.run(_NEXT_DUE, {}).fetchall()[0][0]
    tx.receipt.may_have_more |= len(due) == MAX_DUE


def claim(tx: Transaction, room: Mapping[str, int], seats: Sequence[Seat], balance: Balance) -> list[Assigned]:
    """Take pending tasks, the highest priority and then the oldest first, for clients with room for their kinds."""
    kinds = {kind: its_most for kind, its_most in room.items() if kind in tx.waiting()}
    waiting, exhausted = _look(tx, kinds, _most(seats, kinds))
    chosen = balance.choose([kind for kind, _ in waiting], seats)
    pairs = [(task_id, client) for (_, task_id), client in zip(waiting, chosen, strict=True) if client is not None]
    given = _assign(tx, pairs)
    left = Counter([kind for kind, _ in waiting]) - Counter([task.kind for task in given])
    tx.none_waits(exhausted - left.keys())
    tx.receipt.may_have_more |= len(waiting) >= MAX_ASSIGNED
    return given


def _most(seats: Sequence[Seat], room: Mapping[str, int]) -> int:
    if len({seat.kinds for seat in seats if seat.free > 0}) == 1:
        # All may run the same: what comes first has a place, so that no more need be looked at than there are places.
        return max(room.values())
    return MAX_ASSIGNED


def _look(tx: Transaction, room: Mapping[str, int], most: int) -> tuple[list[tuple[str, int]], set[str]]:
    """Give what waits, in order, and the kinds of which no more does."""
    kinds = list(room.items())
    found: list[AnyRow] = []
    exhausted: set[str] = set()
    for start in range(0, len(kinds), _MAX_HEADS):
        heads = kinds[start : start + _MAX_HEADS]
        its_found = _found(tx, heads, most)
        found += its_found
        if len(its_found) < most:
            times = Counter([kind for _, _, kind in its_found])
            exhausted |= {kind for kind, its_most in heads if times[kind] < its_most}
    in_order = sorted((-priority, task_id, kind) for priority, task_id, kind in found)
    exhausted -= {kind for _, _, kind in in_order[MAX_ASSIGNED:]}
    return [(kind, task_id) for _, task_id, kind in in_order[:MAX_ASSIGNED]], exhausted


def _found(tx: Transaction, kinds: Sequence[tuple[str, int]], most: int) -> Sequence[AnyRow]:
    # A handful of statements for any number of kinds: each takes megabytes and is kept.
    heads = min(_MAX_HEADS, 1 << (len(kinds) - 1).bit_length())
    parameters: dict[str, str | int] = {"most": most}
    for number, (kind, its_most) in enumerate([*kinds, *[_NOTHING] * (heads - len(kinds))]):
        parameters |= {f"kind_{number}": kind, f"most_{number}": its_most}
    return tx.run(_heads(heads), parameters).fetchall()


@cache
def _heads(kinds: int) -> Select[Any]:
    # One limited look at the claim index a kind; a sort of the backlog would grow with it.
    heads = union_all(*(select(_head(number).subquery(f"head_{number}")) for number in range(kinds))).subquery("heads")
    return select(heads).order_by(heads.c.priority.desc(), heads.c.id).limit(bindparam("most"))


def _head(number: int) -> Select[Any]:
    return (
        select(tasks.c.priority, tasks.c.id, tasks.c.kind)
        .where(tasks.c.kind == bindparam(f"kind_{number}"), is_in(State.PENDING))
        .order_by(tasks.c.priority.desc(), tasks.c.id)
        .limit(bindparam(f"most_{number}"))
    )


def _assign(tx: Transaction, pairs: Sequence[tuple[int, int]]) -> list[Assigned]:
    details = _details(tx, [task_id for task_id, _ in pairs])
    fetched = [(*details[task_id], client_id) for task_id, client_id in pairs if task_id in details]
    given = [
        Assigned(client_id, tx.take_assignment_id(), task_id, kind, payload, retry_count, timeout)
        for task_id, kind, payload, retry_count, timeout, client_id in fetched
    ]
    tx.change(_ASSIGN, [(task.assignment_id, task.task_id) for task in given])
    for kind, times in Counter([task.kind for task in given]).items():
        tx.books.move(kind, State.PENDING, State.ASSIGNED, times)
    return given


def _details(tx: Transaction, ids: Sequence[int]) -> dict[int, AnyRow]:
    details: dict[int, AnyRow] = {}
    if not ids:
        return details
    size = 0
    with closing(tx.run(_DETAILS, {"rows": rows([(id,) for id in ids]), "now": tx.now})) as found:
        while part := found.fetchmany(_FETCHED):
            for row in part:
                details[row[0]] = row
                size += len(row[2])
                if size > MAX_ASSIGNED_CHARACTERS:
                    tx.receipt.may_have_more = True
                    return details
    return details
