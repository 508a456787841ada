"""The figures of the store at one moment, read from the books and from indexes, never by a scan of the tasks."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Subquery, bindparam, func, select

from dtm.core.lifecycle import State
from dtm.storage.batch import DEATHS
from dtm.storage.books import KEPT_MINUTES, MINUTE
from dtm.storage.reader import Reader
from dtm.storage.schema import activity, assignments, audit, clients, counts, is_in, meta, tasks
from dtm.storage.sql import AnyRow, AnySelect, among, values

WINDOWS_MINUTES = (1, 5, 60)
DEAD_CLIENTS_SHOWN_FOR = 60 * MINUTE
MAX_CLIENTS = 1_000


class KindCount(Struct, frozen=True):
    """How many tasks of a kind are in a state."""

    kind: str
    state: str
    tasks: int


class OldestWaiting(Struct, frozen=True):
    """The pending task that was submitted first."""

    task_id: int
    kind: str
    created_at: int


class ClientFigures(Struct, frozen=True):
    """A client: `idle`, `busy`, or `dead` with the tasks that it lost."""

    client_id: int
    name: str
    address: str
    status: str
    kinds: list[str]
    capacity: int
    connected_at: int
    last_heartbeat_at: int
    left_at: int | None
    tasks: list[int]


class Throughput(Struct, frozen=True):
    """What happened in the last `minutes` whole minutes and the running one."""

    minutes: int
    submitted: int
    completed: int
    retried: int
    dead: int
    timed_out: int = 0
    cancelled: int = 0
    expired: int = 0


class Statistics(Struct, frozen=True):
    """The store at one moment; instants are UTC microseconds."""

    at: int
    counts: list[KindCount]
    oldest_waiting: OldestWaiting | None
    next_due_at: int | None
    clients: list[ClientFigures]
    throughput: list[Throughput]
    week: Throughput
    log_lag: int

    def in_state(self, state: State) -> int:
        """Count the tasks of all kinds in `state`."""
        return sum(count.tasks for count in self.counts if count.state == state)


def statistics(reader: Reader, now: int) -> Statistics:
    """Read the figures of the moment `now` (UTC microseconds)."""
    with reader.moment():
        return _read(reader, now)


def log_lag(reader: Reader) -> int:
    """Count the audit rows that were not in the log when its place was last noted."""
    lag: int = reader.rows(_LOG_LAG)[0][0]
    return lag


def held_tasks(reader: Reader) -> int:
    """Count the tasks that are assigned."""
    held: int = reader.rows(_HELD_TASKS)[0][0]
    return held


def _read(reader: Reader, now: int) -> Statistics:
    return Statistics(
        at=now,
        counts=[KindCount(*row) for row in reader.rows(_COUNTS)],
        oldest_waiting=next((OldestWaiting(*row) for row in reader.rows(_OLDEST)), None),
        next_due_at=reader.rows(_NEXT_DUE)[0][0],
        clients=_clients(reader, now),
        throughput=[_throughput(reader, now, minutes) for minutes in WINDOWS_MINUTES],
        week=_throughput(reader, now, KEPT_MINUTES),
        log_lag=log_lag(reader),
    )


_COUNTS = (
    select(counts.c.kind, counts.c.state, counts.c.tasks)
    .where(counts.c.tasks != 0)
    .order_by(counts.c.kind, counts.c.state)
)
_NEXT_DUE = select(func.min(tasks.c.run_at)).where(is_in(State.SCHEDULED))
_HELD_TASKS = select(func.coalesce(func.sum(counts.c.tasks), 0)).where(counts.c.state == State.ASSIGNED)
_LOG_LAG = select(func.count()).select_from(audit.join(meta, audit.c.seq > meta.c.log_position))
_MINUTES = (
    select(activity.c.event, func.sum(activity.c.times))
    .where(activity.c.minute >= bindparam("since"))
    .group_by(activity.c.event)
)


def _oldest() -> AnySelect:
    """Step from priority to priority through the claim index, and look at the first task of each."""
    pending = is_in(State.PENDING)

    def highest(*conditions: Any) -> Any:
        return select(func.max(tasks.c.priority)).where(pending, *conditions).scalar_subquery()

    levels = (
        select(counts.c.kind, highest(tasks.c.kind == counts.c.kind).label("priority"))
        .where(counts.c.state == State.PENDING, counts.c.tasks > 0)
        .cte("levels", recursive=True)
    )
    below = highest(tasks.c.kind == levels.c.kind, tasks.c.priority < levels.c.priority)
    levels = levels.union_all(select(levels.c.kind, below).where(levels.c.priority.is_not(None)))
    first = (
        select(func.min(tasks.c.id))
        .where(pending, tasks.c.kind == levels.c.kind, tasks.c.priority == levels.c.priority)
        .correlate(levels)
        .scalar_subquery()
    )
    oldest: Subquery = select(func.min(first).label("id")).where(levels.c.priority.is_not(None)).subquery()
    return select(tasks.c.id, tasks.c.kind, tasks.c.created_at).join(oldest, oldest.c.id == tasks.c.id)


_OLDEST = _oldest()

_CLIENTS = select(
    clients.c.id,
    clients.c.name,
    clients.c.address,
    clients.c.kinds,
    clients.c.capacity,
    clients.c.connected_at,
    clients.c.last_heartbeat_at,
    clients.c.left_at,
    clients.c.left_tasks,
).limit(MAX_CLIENTS)
_PRESENT = _CLIENTS.where(clients.c.left_at.is_(None)).order_by(clients.c.id)
_DIED = _CLIENTS.where(clients.c.left_at >= bindparam("since"), clients.c.why.in_(DEATHS)).order_by(
    clients.c.left_at.desc()
)
_HELD = (
    select(assignments.c.client_id, assignments.c.task_id)
    .where(assignments.c.finished_at.is_(None), among(assignments.c.client_id, "ids"))
    .order_by(assignments.c.id)
)


def _clients(reader: Reader, now: int) -> list[ClientFigures]:
    present = reader.rows(_PRESENT)
    held: dict[int, list[int]] = {row.id: [] for row in present}
    for client_id, task_id in reader.rows(_HELD, {"ids": values(held)}):
        held[client_id].append(task_id)
    alive = [_client(row, "busy" if held[row.id] else "idle", held[row.id]) for row in present]
    died = reader.rows(_DIED, {"since": now - DEAD_CLIENTS_SHOWN_FOR})
    return alive + [_client(row, "dead", msgspec.json.decode(row.left_tasks)) for row in died]


def _client(row: AnyRow, status: str, its_tasks: list[int]) -> ClientFigures:
    return ClientFigures(
        client_id=row.id,
        name=row.name,
        address=row.address,
        status=status,
        kinds=msgspec.json.decode(row.kinds),
        capacity=row.capacity,
        connected_at=row.connected_at,
        last_heartbeat_at=row.last_heartbeat_at,
        left_at=row.left_at,
        tasks=its_tasks,
    )


def _throughput(reader: Reader, now: int, minutes: int) -> Throughput:
    since = now // MINUTE - minutes
    times = dict(tuple(row) for row in reader.rows(_MINUTES, {"since": since}))
    names = ("submitted", "completed", "retried", "dead", "timed_out", "cancelled", "expired")
    return Throughput(minutes, **{name: times.get(name.replace("_", " "), 0) for name in names})
