"""Producers, workers and an operator who want something all the time, by chance but repeatably.

Knows no files: what it does next follows from a ledger and a source of chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from msgspec import Struct
from msgspec.structs import replace

from dtm.core.balance import Seat
from dtm.storage.batch import (
    Batch,
    Cancellation,
    Change,
    Clear,
    Cutoffs,
    Departure,
    Failed,
    Failure,
    NewTask,
    Progress,
    Prune,
    Registration,
    Released,
    Report,
    Reprocess,
    Selection,
    Submission,
    Success,
    Why,
)
from tests.faults.crash.ledger import Ledger

SECOND = 1_000_000
KINDS = ("add", "mul", "send")
LONG = 9_000  # more than fits on two of the database's pages, and than a log line quotes


class Habits(Struct, frozen=True):
    """How often the crowd does what, as weights; `long` is the chance that a payload is a long one.

    `terms` is the chance that a task asks for more than a run.
    """

    submit: int = 5
    join: int = 1
    report: int = 6
    repeat: int = 1
    leave: int = 1
    command: int = 1
    hear: int = 1
    change: int = 1
    prune: int = 1
    cancel: int = 1
    progress: int = 1
    wait: int = 2
    failures: float = 0.4
    long: float = 0.1
    terms: float = 0.5


class Crowd:
    """What wants to happen next in a store."""

    def __init__(self, ledger: Ledger, habits: Habits, chance: Random) -> None:
        self._ledger = ledger
        self._habits = habits
        self._chance = chance
        self._is_new_start = True

    def next_batch(self, present: Sequence[int], *, log_position: int) -> Batch:
        """Give the next batch, `present` being the clients that the store takes for connected."""
        if self._is_new_start:
            self._is_new_start = False
            if present:
                return self._come_back(present)
        if self._ledger.to_send_again is not None:
            return self._send_again(self._ledger.to_send_again)
        batch = Batch()
        for _ in range(self._chance.choice((1, 1, 2, 3))):
            acts = list(_ACTS)
            weights = [getattr(self._habits, act) for act in acts]
            (act,) = self._chance.choices(acts, weights)
            _ACTS[act](self, batch)
        if self._chance.random() < 0.8:
            batch.seats = self._seats()
        if self._chance.random() < 0.3:
            batch.log_position = log_position
        return batch

    def next_now(self) -> int:
        """Give the time of the next batch."""
        return self._ledger.now + self._chance.choice((1, 1_000, SECOND, 15 * SECOND))

    # After a start of the server.

    def _come_back(self, present: Sequence[int]) -> Batch:
        batch, back = Batch(), set[int]()
        for client_id in present:
            newcomer = self._ledger.newcomers.get(client_id)
            if newcomer is None or self._chance.random() < 0.2:
                continue
            resume = tuple(id for id, held in self._ledger.held.items() if held.client_id == client_id)
            batch.registrations.append(replace(newcomer, resume=resume))
            if resume:
                back.add(client_id)
        batch.departures = [Departure(id, Why.NOT_BACK) for id in present if id not in back]
        return batch

    def _send_again(self, unanswered: Batch) -> Batch:
        self._ledger.to_send_again = None
        numbers = {self._ledger.newcomers[id].name: id for id in sorted(self._ledger.connected)}
        batch = Batch()
        for report in unanswered.reports:
            name = self._ledger.newcomers[report.client_id].name
            if name in numbers:
                batch.reports.append(replace(report, client_id=numbers[name]))
        # Without a key it would be another task.
        batch.submissions = [one for one in unanswered.submissions if all(task.key is not None for task in one.tasks)]
        return batch

    # On any day.

    def _submit(self, batch: Batch) -> None:
        known = self._ledger.tasks_asked + sum(len(one.tasks) for one in batch.submissions)
        tasks = [self._task(known + number) for number in range(self._chance.choice((1, 1, 2, 5)))]
        batch.submissions.append(Submission(tuple(tasks)))

    def _task(self, number: int) -> NewTask:
        chance = self._chance
        filling = "x" * (LONG if chance.random() < self._habits.long else chance.randrange(60))
        payload = f'{{"n":{number},"filling":"{filling}"}}'
        keyed = [task for task in self._ledger.intents.values() if task.key is not None]
        match chance.randrange(12):
            case 0 if keyed:
                return chance.choice(keyed)
            case 1 if keyed:
                return NewTask("add", payload, key=chance.choice(keyed).key)
            case 2:
                return NewTask("add", payload, key="a key that\0cannot be stored")
            case 3 | 4:
                return NewTask(chance.choice(KINDS), payload, delay=chance.randrange(1, 20) * SECOND)
            case _:
                key = f"key {number}" if chance.random() < 0.6 else None
                most = chance.choice((None, 1, 2))
                task = NewTask(chance.choice(KINDS), payload, key, chance.randrange(3), max_retries=most)
                return self._with_terms(task) if chance.random() < self._habits.terms else task

    def _with_terms(self, task: NewTask) -> NewTask:
        chance = self._chance
        return replace(
            task,
            timeout=chance.choice((None, SECOND, 30 * SECOND)),
            expires=chance.choice((None, 0, SECOND, 30 * SECOND)),
            retry=chance.choice((None, '{"delay":0}', '{"no_retry_for":["TimeoutError"]}')),
        )

    def _join(self, batch: Batch) -> None:
        number = len(self._ledger.newcomers) + len(batch.registrations)
        kinds = tuple(self._chance.sample(KINDS, self._chance.randrange(1, 4)))
        batch.registrations.append(Registration(f"w{number}", "10.0.0.7:5000", kinds, self._chance.randrange(1, 6)))

    def _report(self, batch: Batch) -> None:
        held = [one for one in self._ledger.held.values() if one.client_id in self._ledger.connected]
        for one in self._chance.sample(held, min(len(held), self._chance.randrange(1, 5))):
            batch.reports.append(Report(one.client_id, one.task_id, one.assignment_id, self._outcome()))

    def _outcome(self) -> Success | Failed | Released:
        if self._chance.random() >= self._habits.failures:
            return Success(f"{self._chance.randrange(1000)}")
        if self._chance.random() < 0.1:
            return Released(self._chance.choice((None, 10 * SECOND)))
        return Failed(Failure("ValueError", "boom", "Traceback…"), may_retry=self._chance.random() < 0.7)

    def _repeat(self, batch: Batch) -> None:
        if self._ledger.sent:
            batch.reports.append(self._chance.choice(self._ledger.sent))

    def _leave(self, batch: Batch) -> None:
        leaving = {departure.client_id for departure in batch.departures}
        if staying := sorted(self._ledger.connected - leaving):
            whys = (Why.GOODBYE, Why.DRAINED, Why.CONNECTION_LOST, Why.SILENT)
            batch.departures.append(Departure(self._chance.choice(staying), self._chance.choice(whys)))

    def _command(self, batch: Batch) -> None:
        selection = self._chance.choice((Selection(everything=True), Selection(kind=self._chance.choice(KINDS))))
        command = self._chance.choice((Reprocess, Reprocess, Clear))
        batch.commands.append(command(selection, self._chance.randrange(1, 4)))

    def _hear(self, batch: Batch) -> None:
        batch.heartbeats |= dict.fromkeys(sorted(self._ledger.connected), self._ledger.now)

    def _change(self, batch: Batch) -> None:
        if connected := sorted(self._ledger.connected):
            client_id = self._chance.choice(connected)
            batch.changes.append(Change(client_id, self._ledger.newcomers[client_id].kinds, 3))

    def _prune(self, batch: Batch) -> None:
        done = [report.task_id for report in self._ledger.accepted.values() if isinstance(report.outcome, Success)]
        named = self._chance.sample(done, min(len(done), 3))
        now = self._ledger.now
        batch.prunings.append(Prune(tuple(named), Cutoffs(now, now, now, 0)))

    def _cancel(self, batch: Batch) -> None:
        known = sorted(self._ledger.ids.values())
        batch.cancellations.append(Cancellation(tuple(self._chance.sample(known, min(len(known), 2)))))

    def _progress(self, batch: Batch) -> None:
        for one in self._chance.sample(list(self._ledger.held.values()), min(len(self._ledger.held), 2)):
            batch.progress[one.assignment_id, one.task_id] = Progress(self._chance.random(), "so far")

    def _wait(self, batch: Batch) -> None:
        """Let the dispatcher look whether something is due."""

    def _seats(self) -> list[Seat]:
        return [self._seat(id) for id in sorted(self._ledger.connected)]

    def _seat(self, client_id: int) -> Seat:
        newcomer = self._ledger.newcomers[client_id]
        held = sum(one.client_id == client_id for one in self._ledger.held.values())
        return Seat(client_id, frozenset(newcomer.kinds), held, max(0, newcomer.capacity - held))


_ACTS: dict[str, Callable[[Crowd, Batch], None]] = {
    "submit": Crowd._submit,
    "join": Crowd._join,
    "report": Crowd._report,
    "repeat": Crowd._repeat,
    "leave": Crowd._leave,
    "command": Crowd._command,
    "hear": Crowd._hear,
    "change": Crowd._change,
    "prune": Crowd._prune,
    "cancel": Crowd._cancel,
    "progress": Crowd._progress,
    "wait": Crowd._wait,
}
