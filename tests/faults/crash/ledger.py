"""What was intended, what was acknowledged, and so what must be true whatever crashed: the notes, added up."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from dtm.storage.batch import Batch, NewTask, Registration, Report
from dtm.storage.receipt import Assigned, Receipt, Registered, Submitted, Verdict

State = dict[str, str]
"""A digest of each table's rows."""


NONE: State = {}
"""The state of a database that is not there."""


class Prepared(Struct, frozen=True):
    """The file stands at its path, and how it came there."""

    how: str


class Opened(Struct, frozen=True):
    """The store may be spoken of from now on, and this is what it holds."""

    state: State


class Logged(Struct, frozen=True):
    """The log holds the audit rows up to that number."""

    position: int


class Asked(Struct, frozen=True):
    """An intent: this batch, at that time, goes to the store."""

    batch: Batch
    now: int


class Told(Struct, frozen=True):
    """An acknowledgement: the batch was committed, with that receipt, and the store now holds this."""

    receipt: Receipt
    state: State


class CopyAsked(Struct, frozen=True):
    """The operator wants a backup in the place of the last one."""


class Copied(Struct, frozen=True):
    """There is one."""


Note = CopyAsked | Copied | Prepared | Opened | Logged | Asked | Told


class Ledger:
    """What producers, workers, the operator and the onlooker know after the notes that they heard."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.exists = False
        self.states: tuple[State, ...] = ()
        """What the store may hold; nothing at all until it was first opened."""
        self.position = 0
        self.copies: tuple[State, ...] = (NONE,)
        """What the backup may hold."""
        self.tasks_asked = 0
        self.intents: dict[str, NewTask] = {}
        self.ids: dict[str, int] = {}
        self.newcomers: dict[int, Registration] = {}
        self.connected: set[int] = set()
        self.held: dict[int, Assigned] = {}
        self.sent: list[Report] = []
        self.accepted: dict[int, Report] = {}
        self.pruned: set[int] = set()
        """Tasks that were to be taken out once they had been completed."""
        self.unanswered: Batch | None = None
        self.to_send_again: Batch | None = None

    def hear_all(self, notes: Iterable[Note]) -> None:
        """Take notice of several notes, in their order."""
        for note in notes:
            self.hear(note)

    def hear(self, note: Note) -> None:
        """Take notice of what was done or is to be done."""
        match note:
            case Prepared():
                self.exists = True
            case Opened(state=state):
                self.states = (state,)
                self.connected = set()
                self.to_send_again, self.unanswered = self.unanswered or self.to_send_again, None
            case Logged(position=position):
                self.position = position
            case CopyAsked():
                self.copies += self.states
            case Copied():
                self.copies = self.states
            case Asked(batch=batch, now=now):
                self.now = now
                self._intend(batch)
            case Told(receipt=receipt, state=state):
                self.states = (state,)
                self._learn(receipt)

    def _intend(self, batch: Batch) -> None:
        self.unanswered = batch
        self.sent += batch.reports
        self.pruned.update(id for pruning in batch.prunings for id in pruning.ids)
        for submission in batch.submissions:
            self.tasks_asked += len(submission.tasks)
            self.intents |= {task.payload: task for task in submission.tasks}

    def _learn(self, receipt: Receipt) -> None:
        batch, self.unanswered = self.unanswered, None
        assert batch is not None
        for newcomer, registered in zip(batch.registrations, receipt.registrations, strict=True):
            assert isinstance(registered, Registered), registered
            self._let_in(newcomer, registered)
        for report, verdict in zip(batch.reports, receipt.reports, strict=True):
            assert isinstance(verdict, Verdict), verdict
            self.held.pop(report.assignment_id, None)
            if verdict.accepted:
                self.accepted.setdefault(report.assignment_id, report)
        for departure in batch.departures:
            self._see_off(departure.client_id)
        for submission, answer in zip(batch.submissions, receipt.submissions, strict=True):
            if isinstance(answer, Submitted):
                self.ids |= {task.payload: id for task, id in zip(submission.tasks, answer.ids, strict=True)}
        over = {stopped.assignment_id for stopped in receipt.stopped if stopped.reason == "timeout"}
        self.held = {id: held for id, held in self.held.items() if id not in over}
        self.held |= {assigned.assignment_id: assigned for assigned in receipt.assigned}

    def _let_in(self, newcomer: Registration, answer: Registered) -> None:
        client_id = answer.client_id
        self.newcomers[client_id] = newcomer
        self.connected.add(client_id)
        for assignment_id, _ in answer.resumed:
            held = self.held[assignment_id]
            self.held[assignment_id] = Assigned(
                client_id, held.assignment_id, held.task_id, held.kind, held.payload, held.retry_count, held.timeout
            )
        for earlier in answer.earlier:
            self._see_off(earlier)

    def _see_off(self, client_id: int) -> None:
        self.connected.discard(client_id)
        self.held = {id: held for id, held in self.held.items() if held.client_id != client_id}
