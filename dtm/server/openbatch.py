"""A batch that fills, and who is to hear of each item once it is committed.

Knows no threads and no store.
"""

from __future__ import annotations

from collections.abc import Callable

from dtm.server.roster import Outlet
from dtm.storage.batch import (
    Batch,
    Cancellation,
    Change,
    Command,
    Departure,
    Prune,
    Registration,
    Report,
    Submission,
    Success,
)
from dtm.storage.receipt import Cancelled, Cause, Refused, Registered, Resolved, Submitted

_ITEM_BYTES = 500  # what an item takes in memory besides its payload


class OpenBatch:
    """What is to change, and what is to happen then.

    Requests (registrations, submissions, cancellations, commands) can be refused until the batch is on its way; what
    has happened already (reports, departures, changes) cannot.
    """

    def __init__(self) -> None:
        self.batch = Batch()
        self.size = 0
        self.requests = 0
        self.reporters: list[Outlet] = []
        self.on_registered: list[Callable[[Registered | Refused], None]] = []
        self.on_submitted: list[Callable[[Submitted | Refused], None]] = []
        self.on_resolved: list[Callable[[Resolved | Refused], None]] = []
        self.on_cancelled: list[Callable[[Cancelled | Refused], None]] = []
        self.on_pruned: list[Callable[[Resolved | Refused], None]] = []

    def register(self, registration: Registration, then: Callable[[Registered | Refused], None]) -> None:
        """Add a client to let in."""
        self.batch.registrations.append(registration)
        self.on_registered.append(then)
        self._count(requests=1)

    def submit(self, submission: Submission, then: Callable[[Submitted | Refused], None]) -> None:
        """Add tasks."""
        self.batch.submissions.append(submission)
        self.on_submitted.append(then)
        self._count(sum(len(task.payload) for task in submission.tasks), items=len(submission.tasks), requests=1)

    def cancel(self, cancellation: Cancellation, then: Callable[[Cancelled | Refused], None]) -> None:
        """Add tasks to cancel."""
        self.batch.cancellations.append(cancellation)
        self.on_cancelled.append(then)
        self._count(items=len(cancellation.ids), requests=1)

    def command(self, command: Command, then: Callable[[Resolved | Refused], None]) -> None:
        """Add an operator's command."""
        self.batch.commands.append(command)
        self.on_resolved.append(then)
        self._count(requests=1)

    def prune(self, pruning: Prune, then: Callable[[Resolved | Refused], None]) -> None:
        """Add tasks to take out."""
        self.batch.prunings.append(pruning)
        self.on_pruned.append(then)
        self._count()

    def report(self, report: Report, reporter: Outlet) -> None:
        """Add a client's word on an assignment."""
        self.batch.reports.append(report)
        self.reporters.append(reporter)
        self._count(len(report.outcome.value) if isinstance(report.outcome, Success) else 0)

    def depart(self, departure: Departure) -> None:
        """Add a client that is gone."""
        self.batch.departures.append(departure)
        self._count()

    def change(self, change: Change) -> None:
        """Add what a client takes from now on."""
        self.batch.changes.append(change)
        self._count()

    def refuse_requests(self, reason: str) -> None:
        """Take out what was only asked for, so that it is never carried out, and tell so who asked."""
        batch = self.batch
        asked = [*self.on_registered, *self.on_submitted, *self.on_resolved, *self.on_cancelled]
        self.size -= sum(self._size_of(submission) for submission in batch.submissions)
        self.size -= _ITEM_BYTES * (len(batch.registrations) + len(batch.commands))
        self.size -= _ITEM_BYTES * sum(len(cancellation.ids) for cancellation in batch.cancellations)
        self.requests = 0
        batch.registrations, batch.submissions, batch.commands, batch.cancellations = [], [], [], []
        self.on_registered, self.on_submitted, self.on_resolved, self.on_cancelled = [], [], [], []
        for then in asked:
            then(Refused(reason, Cause.BUSY))

    @staticmethod
    def _size_of(submission: Submission) -> int:
        return sum(_ITEM_BYTES + len(task.payload) for task in submission.tasks)

    def _count(self, size: int = 0, *, items: int = 1, requests: int = 0) -> None:
        self.size += size + items * _ITEM_BYTES
        self.requests += requests
