"""Group commit: while one batch goes to disk, the next one fills.

The only road to the store. Whoever wants a change puts it into the open batch with what is to happen once it is
committed; nothing is answered before that.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import structlog
from anyio import CapacityLimiter, Event

from dtm.server.clock import Clock
from dtm.server.machine import InThread
from dtm.server.roster import Outlet, Roster
from dtm.storage.batch import (
    Batch,
    Change,
    Clear,
    Departure,
    Registration,
    Report,
    Reprocess,
    Submission,
    Success,
)
from dtm.storage.errors import StoreBusy
from dtm.storage.receipt import Receipt, Refused, Registered, Resolved, Submitted
from dtm.storage.store import Store

MAX_OPEN_BYTES = 16 * 1024 * 1024
"""Size of the open batch from which on no connection is read further until it has been taken to the disk."""

_ITEM_BYTES = 500  # what an item takes in memory besides its payload

BUSY_PAUSE_S = 0.05

log = structlog.get_logger()


class OpenBatch:
    """A batch that fills, and who is to hear of each item."""

    def __init__(self) -> None:
        self.batch = Batch()
        self.size = 0
        self.reporters: list[Outlet] = []
        self.on_registered: list[Callable[[Registered | Refused], None]] = []
        self.on_submitted: list[Callable[[Submitted | Refused], None]] = []
        self.on_resolved: list[Callable[[Resolved | Refused], None]] = []


class Committer:
    """Collects what is to change, has it committed, and passes the receipt on."""

    def __init__(self, store: Store, roster: Roster, clock: Clock, *, in_thread: InThread) -> None:
        self._store = store
        self._roster = roster
        self._clock = clock
        self._in_thread = in_thread
        self._open = OpenBatch()
        self._wanted = Event()
        self._swapped = Event()
        self._delivered = Event()
        self._in_flight = False
        self._one_writer = CapacityLimiter(1)

    # What goes in. Each of these returns at once.

    def register(self, registration: Registration, then: Callable[[Registered | Refused], None]) -> None:
        """Let a client in; `then` hears its number."""
        self._open.batch.registrations.append(registration)
        self._open.on_registered.append(then)
        self._add()

    def change(self, change: Change) -> None:
        """Note what a client takes from now on."""
        self._open.batch.changes.append(change)
        self._add()

    def report(self, report: Report, reporter: Outlet) -> None:
        """Pass on a client's word on an assignment; `reporter` gets the verdict."""
        self._open.batch.reports.append(report)
        self._open.reporters.append(reporter)
        self._add(len(report.outcome.value) if isinstance(report.outcome, Success) else 0)

    def depart(self, departure: Departure) -> None:
        """Take back what a client that is gone holds."""
        self._open.batch.departures.append(departure)
        self._add()

    def submit(self, submission: Submission, then: Callable[[Submitted | Refused], None]) -> None:
        """Take tasks in; `then` hears their numbers."""
        self._open.batch.submissions.append(submission)
        self._open.on_submitted.append(then)
        self._add(sum(len(task.payload) for task in submission.tasks), items=len(submission.tasks))

    def command(self, command: Reprocess | Clear, then: Callable[[Resolved | Refused], None]) -> None:
        """Carry out an operator's command; `then` hears what it did."""
        self._open.batch.commands.append(command)
        self._open.on_resolved.append(then)
        self._add()

    def note_heartbeats(self, heartbeats: dict[int, int]) -> None:
        """Write down when clients were last heard (UTC microseconds)."""
        self._open.batch.heartbeats |= heartbeats
        self.wake()

    def note_log_position(self, position: int) -> None:
        """Write down how far the dead-letter log is; statistics show from it whether it lags."""
        self._open.batch.log_position = position
        self.wake()

    def wake(self) -> None:
        """Ask for a transaction even if nothing was put in: there may be tasks to give out."""
        self._wanted.set()

    @property
    def is_full(self) -> bool:
        """Whether the open batch takes no more."""
        return self._open.size >= MAX_OPEN_BYTES

    async def room(self) -> None:
        """Wait until the open batch takes more."""
        while self.is_full:
            await self._swapped.wait()

    async def delivered(self) -> None:
        """Wait until the next batch has been committed and answered."""
        await self._delivered.wait()

    async def caught_up(self) -> None:
        """Wait until everything that was put in so far has been committed and answered."""
        for _ in range(self._in_flight + self._wanted.is_set()):
            await self.delivered()

    async def idle(self) -> None:
        """Wait until everything that was put in has been committed and answered."""
        while self._wanted.is_set() or self._in_flight:
            await self.delivered()

    # What comes out.

    async def run(self, deliver: Callable[[OpenBatch, Receipt], None]) -> None:
        """Commit batch after batch for ever, and hand each with its receipt to `deliver`.

        Raises:
            StoreFailed: what was in the batch may be on disk or not. Nobody must be answered.
        """
        while True:
            await self._wanted.wait()
            taken = self._swap()
            receipt = await self._commit(taken.batch)
            if receipt.may_have_more:
                self.wake()
            deliver(taken, receipt)
            self._in_flight = False
            self._delivered.set()
            self._delivered = Event()

    async def _commit(self, batch: Batch) -> Receipt:
        while True:
            try:
                return await self._in_thread(self._store.apply, batch, self._clock.now(), limiter=self._one_writer)
            except StoreBusy as error:
                log.warning("store.busy", reason=str(error))
                await anyio.sleep(BUSY_PAUSE_S)

    def _add(self, size: int = 0, *, items: int = 1) -> None:
        self._open.size += size + items * _ITEM_BYTES
        self._wanted.set()

    def _swap(self) -> OpenBatch:
        taken, self._open = self._open, OpenBatch()
        self._in_flight = True
        self._wanted = Event()
        self._swapped.set()
        self._swapped = Event()
        taken.batch.seats = self._roster.seats()
        return taken
