"""Group commit: while one batch goes to disk, the next one fills.

The only road to the store. Whoever wants a change puts it into the open batch with what is to happen once it is
committed; nothing is answered before that.
"""

from __future__ import annotations

from asyncio import Event
from collections.abc import Callable
from math import inf

import anyio
import structlog

from dtm.net.pulse import pulse
from dtm.protocol.codec import ErrorCode
from dtm.server.clock import Clock
from dtm.server.lastwords import LastWords
from dtm.server.limits import Limits
from dtm.server.machine import InOrder
from dtm.server.openbatch import OpenBatch
from dtm.server.roster import Outlet, Roster
from dtm.server.translate import Unacceptable
from dtm.storage.batch import (
    Cancellation,
    Change,
    Command,
    Departure,
    Progress,
    Prune,
    Registration,
    Report,
    Submission,
)
from dtm.storage.compaction import Compacted
from dtm.storage.errors import NoRoom, StoreBusy
from dtm.storage.receipt import Cancelled, Receipt, Refused, Registered, Resolved, Submitted
from dtm.storage.store import Store
from dtm.storage.transaction import earlier
from dtm.storage.witness import Witness

MAX_OPEN_BYTES = 16 * 1024 * 1024
"""Size of the open batch from which on whoever adds to it has to wait until it is on its way to the disk."""

BUSY_PAUSE_S = 0.05

_LOCKED = "another program holds the database's write lock"

log = structlog.get_logger()


class Committer:
    """Collects what is to change, has it committed, and passes the receipt on."""

    def __init__(self, store: Store, roster: Roster, clock: Clock, *, in_order: InOrder, limits: Limits) -> None:
        self._store = store
        self._roster = roster
        self._clock = clock
        self._in_order = in_order
        self._limits = limits
        self._open = OpenBatch()
        self._wanted = Event()
        self._swapped = Event()
        self._delivered = Event()
        self._in_flight = False
        self._blocked_s: float | None = None
        self._compaction: tuple[int, Callable[[Compacted | Refused], None]] | None = None
        self._last_words = LastWords(clock)
        self._spares_until_s = -inf

    # What goes in. Each of these returns at once.

    def require_room(self) -> None:
        """See that another request may wait for the disk; what has happened already is always taken.

        Raises:
            Unacceptable: too many wait, or another program has kept the disk from us for too long.
        """
        if self.is_blocked:
            raise Unacceptable(ErrorCode.STORE_BUSY, f"{_LOCKED}; ask again later")
        waiting = self._open
        if waiting.requests >= self._limits.max_waiting or waiting.size >= 2 * MAX_OPEN_BYTES:
            raise Unacceptable(ErrorCode.OVERLOADED, "too many requests wait for the disk; ask again later")

    def register(self, registration: Registration, then: Callable[[Registered | Refused], None]) -> None:
        """Let a client in; `then` hears its number."""
        self._open.register(registration, then)
        self.wake()

    def change(self, change: Change) -> None:
        """Note what a client takes from now on."""
        self._open.change(change)
        self.wake()

    def report(self, report: Report, reporter: Outlet) -> None:
        """Pass on a client's word on an assignment; `reporter` gets the verdict."""
        self._open.batch.progress |= self._last_words.take_of(report)
        self._open.report(report, reporter)
        self.wake()

    def note_progress(self, assignment_id: int, task_id: int, progress: Progress) -> None:
        """Keep the last word on a running task until its turn comes to be written down."""
        self._last_words.note(assignment_id, task_id, progress)

    def depart(self, departure: Departure) -> None:
        """Take back what a client that is gone holds."""
        self._open.depart(departure)
        self.wake()

    def submit(self, submission: Submission, then: Callable[[Submitted | Refused], None]) -> None:
        """Take tasks in; `then` hears their numbers."""
        self._open.submit(submission, then)
        self.wake()

    def cancel(self, cancellation: Cancellation, then: Callable[[Cancelled | Refused], None]) -> None:
        """Cancel tasks; `then` hears how they stand."""
        self._open.cancel(cancellation, then)
        self.wake()

    def command(self, command: Command, then: Callable[[Resolved | Refused], None]) -> None:
        """Carry out an operator's command; `then` hears what it did."""
        self._open.command(command, then)
        self.wake()

    async def prune(self, pruning: Prune) -> Resolved | Refused:
        """Take tasks out whose time is over, and wait until that is committed."""
        answers: list[Resolved | Refused] = []
        is_over = Event()

        def then(answer: Resolved | Refused) -> None:
            answers.append(answer)
            is_over.set()

        self._open.prune(pruning, then)
        self.wake()
        await is_over.wait()
        return answers[0]

    def compact(self, spare: int, then: Callable[[Compacted | Refused], None]) -> None:
        """Have the file's free pages given back between two batches; `then` hears how large it is.

        Raises:
            Unacceptable: somebody has asked for that already.
        """
        if self.is_compacting:
            raise Unacceptable(ErrorCode.STORE_BUSY, "the store is being compacted already; ask again later")
        self._compaction = (spare, then)
        self.wake()

    def note_heartbeats(self, heartbeats: dict[int, int]) -> None:
        """Write down when clients were last heard (UTC microseconds)."""
        self._open.batch.heartbeats |= heartbeats
        self.wake()

    def note_log_position(self, position: int) -> None:
        """Write down how far the dead-letter log is; statistics show from it whether it lags."""
        self._open.batch.log_position = position
        self.wake()

    def spare_overdue(self, until_s: float) -> None:
        """Let no attempt end for its timeout before this monotonic moment: who runs it was not heard for a while."""
        self._spares_until_s = max(self._spares_until_s, until_s)

    def wake(self) -> None:
        """Ask for a transaction even if nothing was put in: there may be tasks to give out."""
        self._wanted.set()

    @property
    def identity(self) -> Witness:
        """Which store this is, and its epoch."""
        return self._store.identity

    @property
    def next_due_at(self) -> int | None:
        """When time alone changes something in the store, or there is something to be said (UTC microseconds)."""
        deadline_at = self._store.next_deadline_at
        if deadline_at is not None and self._spares_until_s > self._clock.monotonic_s():
            deadline_at = max(deadline_at, self._clock.at(self._spares_until_s))
        return earlier(earlier(self._store.next_due_at, deadline_at), self._last_words.due_at)

    @property
    def is_full(self) -> bool:
        """Whether those who add to the open batch are to wait; they do so before anything has to be refused."""
        waiting = self._open
        return waiting.size >= MAX_OPEN_BYTES or waiting.requests > self._limits.max_waiting // 2

    @property
    def is_blocked(self) -> bool:
        """Whether another program has kept us from the database for so long that requests are refused."""
        return self._blocked_s is not None

    @property
    def is_compacting(self) -> bool:
        """Whether nothing can be committed for a while, as the file is rewritten."""
        return self._compaction is not None

    async def room(self) -> None:
        """Wait until the open batch is not full."""
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
            if self._compaction is not None:
                await self._compact(*self._compaction)
            taken = self._swap()
            receipt = await self._commit(taken)
            if receipt.may_have_more:
                self.wake()
            deliver(taken, receipt)
            self._in_flight = False
            pulse(self._delivered)

    async def _compact(self, spare: int, then: Callable[[Compacted | Refused], None]) -> None:
        log.info("store.compacting")
        began_s = self._clock.monotonic_s()
        try:
            done = await self._in_order(self._store.compact, spare)
        except (NoRoom, StoreBusy) as error:
            log.warning("store.not-compacted", reason=str(error))
            then(Refused(str(error)))
        else:
            seconds = round(self._clock.monotonic_s() - began_s, 1)
            log.info("store.compacted", before=done.before.taken, after=done.after.taken, seconds=seconds)
            then(done)
        self._compaction = None

    async def _commit(self, taken: OpenBatch) -> Receipt:
        began_s = self._clock.monotonic_s()
        while True:
            # Meanwhile clients may have come or gone.
            taken.batch.seats = self._roster.seats()
            taken.batch.spares_overdue = self._clock.monotonic_s() < self._spares_until_s
            try:
                receipt = await self._in_order(self._store.apply, taken.batch, self._clock.now())
            except StoreBusy as error:
                self._note_busy(taken, error, began_s)
                await anyio.sleep(BUSY_PAUSE_S)
            else:
                self._note_free()
                return receipt

    def _note_busy(self, taken: OpenBatch, error: StoreBusy, began_s: float) -> None:
        waited_s = self._clock.monotonic_s() - began_s
        if self.is_blocked or waited_s < self._limits.busy_timeout_s:
            return
        log.error("store.busy", reason=str(error), seconds=round(waited_s, 1))
        self._blocked_s = began_s
        for batch in (taken, self._open):
            batch.refuse_requests(f"{_LOCKED}; ask again later")

    def _note_free(self) -> None:
        if self._blocked_s is not None:
            log.info("store.free", seconds=round(self._clock.monotonic_s() - self._blocked_s, 1))
            self._blocked_s = None

    def _swap(self) -> OpenBatch:
        taken, self._open = self._open, OpenBatch()
        taken.batch.progress |= self._last_words.take_due()
        self._in_flight = True
        self._wanted.clear()
        pulse(self._swapped)
        return taken
