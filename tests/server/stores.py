"""Real stores for the tests of single parts, and a hand that lets things happen in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dtm.core.balance import LeastLoaded, Seat
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
from dtm.storage.receipt import Registered
from dtm.storage.store import Store
from dtm.storage.transaction import Policy
from tests.server.live import furnish

NOW = 1_800_000_000_000_000


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """Open the store in `folder`, a new one if there is none."""
    policy = Policy(max_retries=3, retry_delay=lambda _: 0)
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
