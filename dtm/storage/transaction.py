"""One open transaction: its connection, its instant, and what it will have changed once it commits.

The steps that work in it (`intake`, `reports`, `clients`, `claim`, `deadletters`) are functions of this value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from sqlalchemy import Select, insert
from sqlalchemy.sql.dml import UpdateBase

from dtm.core import auditline
from dtm.core.retry import RetryPolicy
from dtm.storage.books import Books
from dtm.storage.errors import StoreFailed
from dtm.storage.prepared import Prepared
from dtm.storage.receipt import Receipt
from dtm.storage.schema import audit
from dtm.storage.sql import Row, Value, is_long, require_no_nul, row, rows, values

_INSERT_AUDIT = insert(audit)
NOTHING: Mapping[str, Value] = MappingProxyType({})


class Sequences(Struct):
    """What the store knows without looking. Only a commit makes it the store's.

    The numbers to be given out next, the end of the audit chain, when something is next to happen by itself, and the
    kinds of which tasks may be pending: of no other kind is any.
    """

    task_id: int
    assignment_id: int
    audit_seq: int
    audit_prev: str
    next_due_at: int | None
    next_expiry_at: int | None = None
    next_deadline_at: int | None = None
    waiting: AbstractSet[str] = frozenset()


class Policy(Struct, frozen=True):
    """What the store needs to be told about retries: a default, and how long to wait after a number of failures."""

    max_retries: int
    retry_delay: Callable[[int, RetryPolicy], int]


class Transaction:
    """What every step of a batch shares."""

    def __init__(self, prepared: Prepared, sequences: Sequences, policy: Policy, now: int) -> None:
        self.connection = prepared.connection
        self.run = prepared.run
        self.sequences = sequences
        self.policy = policy
        self.now = now
        self.books = Books()
        self.receipt = Receipt()
        self._prepared = prepared
        self._audit_rows: list[dict[str, Any]] = []

    def change(self, statement: UpdateBase, items: Sequence[Row], common: Mapping[str, Value] = NOTHING) -> None:
        """Run `statement` on the `given` rows, each of which must change exactly one row of the table.

        What all of them have in `common` the statement takes by its name.

        Raises:
            StoreFailed: it did not, so this program's picture of the table is wrong. Nothing may be committed on it.
        """
        if not items:
            return
        require_no_nul(common.values())
        changed = self.run(statement, {**common, "rows": rows(items), "now": self.now}).rowcount
        self.require(len(items), changed, statement)

    def change_those(self, statement: UpdateBase, ids: Sequence[int]) -> None:
        """Run `statement` on the rows `among` the `ids`, each of which it must change.

        Raises:
            StoreFailed: as `change`.
        """
        if ids:
            changed = self.run(statement, {"ids": values(ids), "now": self.now}).rowcount
            self.require(len(ids), changed, statement)

    def change_with_text(
        self, together: UpdateBase, alone: UpdateBase, items: Sequence[tuple[Value, ...]], *, column: int
    ) -> None:
        """As `change` does with `together`; rows whose text in `column` is long go through `alone` one by one.

        Raises:
            StoreFailed: as `change`.
        """
        long = [item for item in items if is_long(item[column])]
        self.change(together, [item for item in items if not is_long(item[column])] if long else items)
        self.change_each(alone, long)

    def change_each(self, statement: UpdateBase, items: Sequence[tuple[Value, ...]]) -> None:
        """Run `statement` for one after the other of the rows, as `given_one`; else as `change` does.

        Raises:
            StoreFailed: as `change`.
        """
        if items:
            changed = self._prepared.run_each(statement, [{**row(item), "now": self.now} for item in items])
            self.require(len(items), changed, statement)

    @staticmethod
    def require(wanted: int, changed: int, statement: UpdateBase) -> None:
        """See that `statement` has changed as many rows as it was to.

        Raises:
            StoreFailed: it has not.
        """
        if changed != wanted:
            raise StoreFailed(f"wanted to change {wanted} rows, changed {changed}: {statement}")

    def texts(self, statement: Select[int, str], ids: Iterable[int]) -> dict[int, str]:
        """Run a statement of `among(…, "ids")` that gives an id and a text a row."""
        return dict(self.run(statement, {"ids": values(ids)}).fetchall())

    def schedule(self, run_at: int) -> None:
        """Note that a task falls due at `run_at`."""
        self.sequences.next_due_at = earlier(self.sequences.next_due_at, run_at)

    def note_expiry(self, expires_at: int) -> None:
        """Note that a task that waits expires at `expires_at`."""
        self.sequences.next_expiry_at = earlier(self.sequences.next_expiry_at, expires_at)

    def note_deadline(self, deadline_at: int) -> None:
        """Note that an attempt's time is over at `deadline_at`."""
        self.sequences.next_deadline_at = earlier(self.sequences.next_deadline_at, deadline_at)

    def waiting(self) -> AbstractSet[str]:
        """Give the kinds of which tasks may be pending by now."""
        new = self.books.made_pending - self.sequences.waiting
        if new:
            self.sequences.waiting = self.sequences.waiting | new
        self.books.made_pending.clear()
        return self.sequences.waiting

    def none_waits(self, kinds: AbstractSet[str]) -> None:
        """Note that no task of these kinds is pending."""
        self.sequences.waiting = self.sequences.waiting - kinds

    def take_assignment_id(self) -> int:
        """Give the next fencing number."""
        number = self.sequences.assignment_id
        self.sequences.assignment_id += 1
        return number

    def record(self, event: str, fields: Mapping[str, object]) -> None:
        """Write down a dead letter's event: a row now, and a line of the log after the commit."""
        sequences = self.sequences
        sequences.audit_seq += 1
        line = auditline.render(sequences.audit_seq, self.now, event, fields, prev=sequences.audit_prev)
        sequences.audit_prev = auditline.digest(line)
        self._audit_rows.append({"seq": sequences.audit_seq, "at": self.now, "event": event, "line": line})

    def finish(self) -> Receipt:
        """Write what was collected on the way; the commit comes next."""
        self.waiting()
        if self._audit_rows:
            self.connection.execute(_INSERT_AUDIT, self._audit_rows)
        self.books.write(self._prepared, self.now)
        self.receipt.audited = bool(self._audit_rows)
        self.receipt.next_due_at = self.sequences.next_due_at
        return self.receipt


def earlier(one: int | None, other: int | None) -> int | None:
    """Give the earlier of two instants, of which either may never come."""
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
