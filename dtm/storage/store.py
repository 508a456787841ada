"""The store: one transaction for each batch, and the only writer of the file.

Knows no threads, no sockets and no clock: the caller runs one `apply` at a time and says what time it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from sqlalchemy import Connection, bindparam, func, select, text, update
from sqlalchemy.exc import DatabaseError

from dtm.core.auditline import FIRST_PREV, digest
from dtm.core.balance import Balance, Seat
from dtm.core.lifecycle import State
from dtm.storage import (
    assign,
    cancel,
    claim,
    clients,
    intake,
    operators,
    overdue,
    progress,
    reports,
    retention,
    witness,
)
from dtm.storage.atomic import DATA_ERRORS, atomically
from dtm.storage.batch import Batch
from dtm.storage.compaction import Compacted, compact
from dtm.storage.engine import driver_of, writer_engine
from dtm.storage.errors import StoreFailed
from dtm.storage.inspect import require_current, require_no_backup
from dtm.storage.prepared import Prepared
from dtm.storage.receipt import Left, Receipt, Refused
from dtm.storage.schema import assignments, audit, counts, is_in, meta, tasks
from dtm.storage.singly import merge, singles
from dtm.storage.transaction import Policy, Sequences, Transaction, earlier
from dtm.storage.witness import Witness

_IDENTITY = select(meta.c.store_id, meta.c.epoch)
_NEXT_EPOCH = update(meta).values(epoch=meta.c.epoch + 1)
_SET_LOG_POSITION = update(meta).values(log_position=bindparam("position"))
_LAST_LINE = select(audit.c.seq, audit.c.line).order_by(audit.c.seq.desc()).limit(1)
_LAST_NUMBER = text("SELECT seq FROM sqlite_sequence WHERE name = :table")
_KINDS = select(counts.c.kind).distinct()
_NEXT_DUE = select(func.min(tasks.c.run_at)).where(is_in(State.SCHEDULED))


class Store:
    """An open store of this version; its lock is the caller's."""

    def __init__(
        self, connection: Connection, identity: Witness, sequences: Sequences, *, policy: Policy, balance: Balance
    ) -> None:
        self.identity = identity
        self._connection = connection
        self._prepared = Prepared(connection)
        self._sequences = sequences
        self._policy = policy
        self._balance = balance

    @classmethod
    def open(cls, path: Path, *, policy: Policy, balance: Balance, numbers_above: int = 0) -> Store:
        """Open the store at `path` for writing.

        Args:
            path: the file.
            policy: its rules of retries.
            balance: who gets a task.
            numbers_above: the new fencing numbers are above this and above all that the store remembers. A server
                names its clock's microseconds: fewer than one a microsecond is given out, so that even in a copy of
                long ago, which nobody noticed, no number comes again that the lost time knew.

        Raises:
            StoreRefused: there is none, or not of this version.
            StoreBusy: another program's transaction blocks it.
            StoreFailed: the disk failed.
        """
        require_current(path)
        require_no_backup(path)
        try:
            connection = writer_engine(path).connect()
        except DatabaseError as error:
            raise StoreFailed(f"{path}: cannot be opened for writing ({error.orig})") from error
        try:
            with atomically(connection):
                found = Witness(*connection.execute(_IDENTITY).one())
                witness.require_not_older(path, found)
                # What a crash left is readable but perhaps not yet on disk. This commit's fsync puts it there, before
                # anything is answered or logged from it.
                connection.execute(_NEXT_EPOCH)
                sequences = _read_sequences(connection, numbers_above)
        except BaseException:
            connection.close()
            raise
        identity = Witness(found.store, found.epoch + 1)
        witness.note(path, identity)
        return cls(connection, identity, sequences, policy=policy, balance=balance)

    @property
    def next_due_at(self) -> int | None:
        """When the next task falls due or expires (UTC microseconds), as of the last commit."""
        return earlier(self._sequences.next_due_at, self._sequences.next_expiry_at)

    @property
    def next_deadline_at(self) -> int | None:
        """When the time of the next attempt is over, at the earliest (UTC microseconds), as of the last commit."""
        return self._sequences.next_deadline_at

    def wait_for_lock(self, seconds: float) -> None:
        """Let `apply` wait so long for another program's transaction before it raises `StoreBusy`."""
        driver_of(self._connection).execute(f"PRAGMA busy_timeout = {round(seconds * 1_000)}")

    def apply(self, batch: Batch, now: int) -> Receipt:
        """Carry out `batch` in one transaction; once this returns, it is on disk.

        Args:
            batch: what to do.
            now: UTC microseconds.

        Raises:
            StoreBusy: nothing has happened; the same batch may be tried again.
            StoreFailed: whether anything was saved is unknown. The process must end, and the next opening will tell.
        """
        try:
            return self._apply_whole(batch, now)
        except DATA_ERRORS:
            # An item's content broke a statement and the transaction was rolled back: find the item.
            return self._apply_singly(batch, now)

    def compact(self, spare: int) -> Compacted:
        """Give the file's free pages back to the disk; meanwhile nothing else can be done.

        Args:
            spare: bytes that must stay free on the database's disk.

        Raises:
            NoRoom: a disk is too small for that; nothing has changed.
            StoreBusy: another program holds the write lock; nothing has changed.
            StoreFailed: the disk failed.
        """
        return compact(driver_of(self._connection), spare=spare)

    def close(self) -> None:
        """Close the file; the write-ahead log is merged into it."""
        self._connection.close()

    def _apply_whole(self, batch: Batch, now: int) -> Receipt:
        with atomically(self._connection):
            receipt, sequences = self._run(batch, now, self._sequences)
        self._sequences = sequences
        return receipt

    def _apply_singly(self, batch: Batch, now: int) -> Receipt:
        whole, sequences = Receipt(), self._sequences
        with atomically(self._connection):
            for name, single in singles(batch):
                single.seats = _still_taken(single.seats, whole.left)
                try:
                    with self._connection.begin_nested():
                        receipt, sequences = self._run(single, now, sequences)
                except DATA_ERRORS as error:
                    if name is None:
                        raise StoreFailed(f"the store's own bookkeeping failed: {error}") from error
                    getattr(whole, name).append(Refused(f"the store cannot hold it: {_first_line(error)}"))
                else:
                    merge(whole, receipt)
        self._sequences = sequences
        return whole

    def _run(self, batch: Batch, now: int, sequences: Sequences) -> tuple[Receipt, Sequences]:
        tx = Transaction(self._prepared, msgspec.structs.replace(sequences), self._policy, now)
        clients.register(tx, batch.registrations)
        clients.change(tx, batch.changes)
        progress.note(tx, batch.progress)
        reports.settle(tx, batch.reports)
        clients.depart(tx, batch.departures)
        operators.carry_out(tx, batch.commands)
        cancel.cancel(tx, batch.cancellations)
        if not batch.spares_overdue:
            overdue.time_out(tx)
        overdue.expire(tx)
        retention.prune(tx, batch.prunings)
        taken = intake.take(tx, batch.submissions)
        clients.hear(tx, batch.heartbeats)
        if batch.log_position is not None:
            tx.connection.execute(_SET_LOG_POSITION, {"position": batch.log_position})
            # It comes every few seconds; often enough for this too.
            tx.books.forget(tx.connection, now)
        claim.fall_due(tx)
        assign.assign(tx, taken, _still_taken(batch.seats, tx.receipt.left), self._balance)
        return tx.finish(), tx.sequences


def _read_sequences(connection: Connection, numbers_above: int) -> Sequences:
    seq, line = connection.execute(_LAST_LINE).one_or_none() or (0, None)
    return Sequences(
        task_id=_last_number(connection, tasks.name) + 1,
        assignment_id=max(_last_number(connection, assignments.name), numbers_above) + 1,
        audit_seq=seq,
        audit_prev=FIRST_PREV if line is None else digest(line),
        next_due_at=connection.execute(_NEXT_DUE).scalar(),
        next_expiry_at=connection.execute(overdue.NEXT_EXPIRY).scalar(),
        next_deadline_at=connection.execute(overdue.NEXT_DEADLINE).scalar(),
        waiting=set(connection.execute(_KINDS).scalars()),
    )


def _last_number(connection: Connection, table: str) -> int:
    number: int | None = connection.execute(_LAST_NUMBER, {"table": table}).scalar()
    return number or 0


def _still_taken(seats: Sequence[Seat], left: Sequence[Left]) -> list[Seat]:
    """Leave out the clients that the same transaction sees off: nobody would take back what they got after that."""
    gone = {departed.client_id for departed in left}
    return [seat for seat in seats if seat.client_id not in gone]


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).partition("\n")[0]
