"""One life of the server: its parts in the order in which it opens, uses and closes them, and notes of what it says.

No sockets, no threads: `dtm.server.app` does the same around an event loop.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

from anyio import to_thread
from msgspec import Struct

from dtm.server.audit_log import AuditLog
from dtm.server.projector import Projector
from dtm.storage.backup import back_up
from dtm.storage.lock import Holder, StoreLock
from dtm.storage.migrate import prepare
from dtm.storage.reader import Reader
from dtm.storage.store import Store
from tests.faults.crash.crowd import Crowd, Habits
from tests.faults.crash.ledger import Asked, Copied, CopyAsked, Ledger, Logged, Note, Opened, Prepared, State, Told
from tests.faults.crash.recorder import Recorder
from tests.storage.stage import open_store

DATABASE = "tasks.db"
LOG = "dead-letter-queue.log"
COPY = "backup.db"

# Everything that is stored but the number of starts and the store's own name, which chance gives it.
_TABLES = {
    "meta": "SELECT log_position FROM meta",
    **{
        table: f"SELECT * FROM {table} ORDER BY 1, 2"
        for table in ("tasks", "assignments", "clients", "dead_letters", "counts", "activity", "sqlite_sequence")
    },
    "audit": "SELECT * FROM audit ORDER BY seq",
}


class Plan(Struct, frozen=True):
    """What happens in a life: so many batches of a crowd with these habits, and then the end in good order."""

    steps: int
    habits: Habits
    rotations: float = 0.05
    """Chance that the operator has the log rotated after a batch."""
    backups: float = 0.0
    """Chance that the operator makes a backup after a batch."""
    checkpoint_pages: int = 1_000
    """Length of the write-ahead log at which SQLite merges it; its own default unless a plan wants it to happen."""


class Life:
    """The parts of a server on one folder."""

    def __init__(self, folder: Path, ledger: Ledger, recorder: Recorder) -> None:
        self._folder = folder
        self._ledger = ledger
        self._recorder = recorder

    def run(self, plan: Plan, chance: Random) -> None:
        """Start, work and stop."""
        database = self._folder / DATABASE
        with ExitStack() as stack:
            lock = StoreLock(database)
            lock.acquire()
            stack.callback(lock.release)
            self._say(Prepared(prepare(database)))
            store = open_store(database, numbers_above=self._ledger.now)
            stack.callback(store.close)
            _checkpoint_at(plan.checkpoint_pages, store)
            reader = stack.enter_context(closing(Reader.open(database)))
            onlooker = stack.enter_context(closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)))
            self._say(Opened(state_of(onlooker)))
            file = stack.enter_context(closing(AuditLog(self._folder / LOG)))
            projector = Projector(reader, file, to_thread.run_sync)
            projector.start()
            self._say(Logged(projector.position))
            lock.announce(Holder(1, "127.0.0.1", 12345, "secret"))
            crowd = Crowd(self._ledger, plan.habits, chance)
            for _ in range(plan.steps):
                self._step(store, crowd, reader, onlooker, projector)
                if chance.random() < plan.backups:
                    self._back_up(database)
                if chance.random() < plan.rotations:
                    projector.rotate()
                # The projector has a thread of its own and may come later than the next commit.
                if chance.random() < 0.7:
                    self._project(projector)
            self._project(projector)

    def _step(
        self, store: Store, crowd: Crowd, reader: Reader, onlooker: sqlite3.Connection, projector: Projector
    ) -> None:
        asked = Asked(crowd.next_batch(reader.present_clients(), log_position=projector.position), crowd.next_now())
        self._say(asked)
        receipt = store.apply(asked.batch, asked.now)
        self._say(Told(receipt, state_of(onlooker)))

    def _project(self, projector: Projector) -> None:
        projector.catch_up()
        self._say(Logged(projector.position))

    def _back_up(self, database: Path) -> None:
        self._say(CopyAsked())
        back_up(database, self._folder / COPY, replace=True)
        self._say(Copied())

    def _say(self, note: Note) -> None:
        self._recorder.note(note)
        self._ledger.hear(note)


def _checkpoint_at(pages: int, store: Store) -> None:
    driver = store._connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.execute(f"PRAGMA wal_autocheckpoint = {pages}")


def state_of(connection: sqlite3.Connection) -> State:
    """Read what a store holds."""
    return {table: _digest(connection.execute(query).fetchall()) for table, query in _TABLES.items()}


def _digest(rows: list[tuple[object, ...]]) -> str:
    return hashlib.blake2b(repr(rows).encode(), digest_size=8).hexdigest() if rows else "nothing"
