"""Real stores for the tests of single parts, and a hand that lets things happen in them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from anyio import create_task_group, to_thread

from dtm.core.balance import LeastLoaded, Seat
from dtm.protocol.messages import Message
from dtm.server.admission import Access
from dtm.server.clock import Clock
from dtm.server.committer import Committer
from dtm.server.delivery import Delivery
from dtm.server.disk import Disk
from dtm.server.gate import Gate
from dtm.server.hub import Hub
from dtm.server.lookup import Lookup
from dtm.server.roster import Roster
from dtm.server.watchers import Watchers
from dtm.storage.batch import (
    Batch,
    Departure,
    Failed,
    Failure,
    NewTask,
    Registration,
    Report,
    Submission,
    Why,
)
from dtm.storage.reader import Reader
from dtm.storage.receipt import Registered
from dtm.storage.store import Store
from dtm.storage.transaction import Policy
from tests.server.live import FAST, furnish

NOW = 1_800_000_000_000_000


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """Open the store in `folder`, a new one if there is none."""
    policy = Policy(max_retries=3, retry_delay=lambda _, __: 0)
    with closing(Store.open(furnish(folder), policy=policy, balance=LeastLoaded())) as store:
        yield store


def bury(store: Store, count: int = 1, *, payload: str = "null") -> None:
    """Let `count` new tasks die; each is a line of the log."""
    (client,) = store.apply(
        Batch(registrations=[Registration("gravedigger", "nowhere", ("A",), count)]), NOW
    ).registrations
    assert isinstance(client, Registered)
    seat = Seat(client.client_id, frozenset("A"), held=0, free=count)
    submission = Submission(tuple(NewTask("A", payload) for _ in range(count)))
    assigned = store.apply(Batch(submissions=[submission], seats=[seat]), NOW).assigned
    assert len(assigned) == count
    outcome = Failed(Failure("Boom"), may_retry=False)
    reports = [Report(task.client_id, task.task_id, task.assignment_id, outcome) for task in assigned]
    store.apply(Batch(reports=reports, departures=[Departure(client.client_id, Why.GOODBYE)]), NOW)


@contextmanager
def locked(db: Path) -> Iterator[None]:
    """Hold the database's write lock, as another program may."""
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def rename_table(db: Path, name: str, new_name: str) -> None:
    """Take a table away under its server, as a failing disk may, or give it back."""
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute(f"ALTER TABLE {name} RENAME TO {new_name}")


class Silence:
    """A connection that nobody listens to."""

    is_full = False
    is_heard = True

    def flush(self) -> None:
        """Do nothing."""

    def send(self, messages: Sequence[Message]) -> None:
        """Drop them."""

    def cut(self, reason: str) -> None:
        """Do nothing."""


@asynccontextmanager
async def hub_on(folder: Path) -> AsyncIterator[Hub]:
    """Put the parts of a server together on the store in `folder`; only `settle` lets them work."""
    with opened(folder) as store, closing(Reader.open(folder / "tasks.db")) as reader:
        clock, roster = Clock.start(time.time_ns, time.monotonic), Roster()
        async with create_task_group() as group:

            def in_background(run: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
                group.start_soon(run, *arguments)

            yield Hub(
                name="hub",
                access=Access((), demands_token=False),
                settings=FAST,
                gate=Gate(FAST.limits),
                disk=Disk(folder / "tasks.db", folder / "tasks.db.lock", folder, min_free=0),
                clock=clock,
                roster=roster,
                watchers=Watchers(),
                committer=Committer(store, roster, clock, in_order=to_thread.run_sync, limits=FAST.limits),
                lookup=Lookup(reader, to_thread.run_sync),
                inquiries=Lookup(reader, to_thread.run_sync),
                background=in_background,
            )


async def settle(hub: Hub) -> None:
    """Commit everything that was put in, and deliver it."""
    async with create_task_group() as group:
        group.start_soon(hub.committer.run, Delivery(hub.roster, hub.watchers, lambda: None))
        await hub.committer.idle()
        group.cancel_scope.cancel()
