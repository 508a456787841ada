"""A part of the server that dies takes the server with it: at once, and with a code that says so."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.acceptance.cluster import Cluster
from tests.faults.crowd import Visitor
from tests.server.live import submission

END_WITHIN_S = 1.0
TRIES = 3


class Death(NamedTuple):
    """A part, what kills it, how long it may take to notice, and what is said of it."""

    part: str
    blow: Callable[[Cluster], None]
    notices_within_s: float
    says: str


def _take_away(db: Path, table: str) -> None:
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO {table}_gone")


def _kill_writer(cluster: Cluster) -> None:
    """Take a table away that every submission changes, and submit."""
    _take_away(cluster.db, "activity")
    visitor = Visitor(cluster.address)
    assert visitor.ask(submission({"kind": "A"})) is None
    visitor.close()


def _kill_projector(cluster: Cluster) -> None:
    """Take the table away that it looks at every second, whether or not it is told to."""
    _take_away(cluster.db, "audit")


def _kill_monitor(cluster: Cluster) -> None:
    """Put a copy in the database's place, which it must not bear."""
    copy = cluster.db.with_name("copy")
    shutil.copy(cluster.db, copy)
    copy.replace(cluster.db)


DEATHS = (
    Death("writer", _kill_writer, 0.0, "activity"),
    Death("projector", _kill_projector, 1.0, "no such table: audit"),
    Death("monitor", _kill_monitor, 0.1, ".db: was replaced while the server worked on it"),
)


@pytest.mark.parametrize("death", DEATHS, ids=[death.part for death in DEATHS])
def test_a_part_that_dies_ends_the_server(cluster: Cluster, death: Death, figure: Callable[[str], None]) -> None:
    """With code 1, its reason and whatever connections there are; soon, the best of a few tries on a busy machine."""
    took_s = []
    for number in range(TRIES):
        cluster.db, log = cluster.folder / f"{number}.db", f"{number}.log"
        server = cluster.start_server("--db", str(cluster.db), "--dead-letter-log", log, "--heartbeat-check", "100ms")
        idle = Visitor(cluster.address)
        began_s = time.monotonic()
        death.blow(cluster)
        assert server.wait(30) == 1
        took_s.append(time.monotonic() - began_s)
        idle.close()

        assert death.says in cluster.logs()
        if took_s[-1] < death.notices_within_s + END_WITHIN_S:
            break
    figure(f"death of the {death.part}: the server ended within {min(took_s):.2f} s")
    assert min(took_s) < death.notices_within_s + END_WITHIN_S
