"""Who came, what they still hold, and what is left of them when they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import bindparam, insert, select, update

from dtm.storage.attempts import end
from dtm.storage.batch import Change, Departure, Failure, Registration, Released, Why
from dtm.storage.outcomes import ATTEMPT, Attempt, Died, Outcome
from dtm.storage.progress import read
from dtm.storage.receipt import Left, Registered, Stopped
from dtm.storage.schema import assignments, clients, tasks
from dtm.storage.sql import among, given, values
from dtm.storage.transaction import Transaction

MAX_NAMED = 100
"""Tasks that a client's row names when it leaves them behind; a list for people."""

_INSERT = insert(clients).returning(clients.c.id)
_CHANGED = given("id", "kinds", "capacity")
_CHANGE = (
    update(clients).where(clients.c.id == _CHANGED.c.id).values(kinds=_CHANGED.c.kinds, capacity=_CHANGED.c.capacity)
)
_NAMED = (
    select(assignments.c.id, assignments.c.task_id, assignments.c.client_id, assignments.c.finished_at)
    .join_from(assignments, clients, clients.c.id == assignments.c.client_id)
    .where(
        among(assignments.c.id, "ids"),
        clients.c.name == bindparam("name"),
        clients.c.instance.is_not_distinct_from(bindparam("instance")),
    )
)
_PRESENT = select(clients.c.id).where(
    clients.c.left_at.is_(None), clients.c.instance == bindparam("instance"), clients.c.id < bindparam("client")
)
_TAKEN = given("id", "client_id")
_TAKE_OVER = (
    update(assignments)
    .where(assignments.c.id == _TAKEN.c.id, assignments.c.finished_at.is_(None))
    .values(client_id=_TAKEN.c.client_id)
)
_HELD = (
    select(*ATTEMPT)
    .join_from(assignments, tasks, tasks.c.id == assignments.c.task_id)
    .where(assignments.c.client_id == bindparam("client"), assignments.c.finished_at.is_(None))
)
_TO_STOP = (
    select(assignments.c.id, assignments.c.task_id, tasks.c.retry_count, tasks.c.progress)
    .join_from(assignments, tasks, tasks.c.id == assignments.c.task_id)
    .where(among(assignments.c.id, "ids"), tasks.c.cancel_requested_at.is_not(None))
)
_LEAVE = (
    update(clients)
    .where(clients.c.id == bindparam("client"), clients.c.left_at.is_(None))
    .values(left_at=bindparam("at"), why=bindparam("reason"), left_tasks=bindparam("left"))
)
_NAME = select(clients.c.name).where(clients.c.id == bindparam("client"))
_HEARD = given("id", "at")
_HEAR = update(clients).where(clients.c.id == _HEARD.c.id).values(last_heartbeat_at=_HEARD.c.at)


def register(tx: Transaction, registrations: Sequence[Registration]) -> None:
    """Give each newcomer its number, and the assignments that are still its own."""
    for newcomer in registrations:
        row = {
            "name": newcomer.name,
            "address": newcomer.address,
            "kinds": _kinds_text(newcomer.kinds),
            "capacity": newcomer.capacity,
            "connected_at": tx.now,
            "last_heartbeat_at": tx.now,
            "instance": newcomer.instance,
        }
        client_id: int = tx.connection.execute(_INSERT, row).scalar_one()
        tx.receipt.registrations.append(_resume(tx, client_id, newcomer))


def _resume(tx: Transaction, client_id: int, newcomer: Registration) -> Registered:
    who = {"name": newcomer.name, "instance": newcomer.instance}
    # Name and instance keep one client from taking another's work by a wrong number.
    named = tx.connection.execute(_NAMED, {**who, "ids": values(newcomer.resume)}).all() if newcomer.resume else []
    resumed = {row.id: row.task_id for row in named if row.finished_at is None}
    tx.change(_TAKE_OVER, [(id, client_id) for id in resumed])
    if resumed:
        # It may not have heard.
        for id, task_id, retry_count, text in tx.connection.execute(_TO_STOP, {"ids": values(resumed)}):
            tx.receipt.stopped.append(Stopped(client_id, id, task_id, retry_count, "cancelled", read(text)))
    # Whoever can name its earlier assignments is the same process. What it does not name never reached it.
    earlier = sorted({row.client_id for row in named} | _present(tx, client_id, newcomer))
    depart(tx, [Departure(id, Why.CAME_BACK) for id in earlier])
    return Registered(
        client_id,
        resumed=tuple(resumed.items()),
        lost=tuple(id for id in dict.fromkeys(newcomer.resume) if id not in resumed),
        earlier=tuple(earlier),
    )


def _present(tx: Transaction, client_id: int, newcomer: Registration) -> set[int]:
    """Give the earlier connections of this very process of which nobody has noticed that they are gone."""
    if newcomer.instance is None:
        return set()
    return set(tx.connection.execute(_PRESENT, {"client": client_id, "instance": newcomer.instance}).scalars())


def change(tx: Transaction, changes: Sequence[Change]) -> None:
    """Note what clients now take; of several changes of one client the last counts."""
    latest = {change.client_id: change for change in changes}
    tx.change(_CHANGE, [(id, _kinds_text(change.kinds), change.capacity) for id, change in latest.items()])


def depart(tx: Transaction, departures: Sequence[Departure]) -> None:
    """Take back what each of these clients holds, with blame or without."""
    for departure in departures:
        client = {"client": departure.client_id}
        held = [Attempt(*row) for row in tx.connection.execute(_HELD, client)]
        name = tx.connection.execute(_NAME, client).scalar_one()
        end(tx, [(attempt, _outcome(departure, name)) for attempt in held])
        left = [attempt.task_id for attempt in held[:MAX_NAMED]]
        row = {**client, "at": tx.now, "reason": departure.why, "left": msgspec.json.encode(left).decode()}
        has_left = tx.connection.execute(_LEAVE, row).rowcount
        if has_left:
            tx.receipt.left.append(Left(departure.client_id, name, departure.why, len(held)))


def _outcome(departure: Departure, name: str) -> Outcome:
    if departure.why.is_death:
        return Died(Failure("ClientDied", f"client {name}: {departure.why}"))
    return Released()


def hear(tx: Transaction, heartbeats: Mapping[int, int]) -> None:
    """Note when each client was last heard."""
    tx.change(_HEAR, list(heartbeats.items()))


def _kinds_text(kinds: tuple[str, ...]) -> str:
    return msgspec.json.encode(kinds).decode()
