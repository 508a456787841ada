"""What is said once a batch is committed: verdicts, tasks, notices.

Runs between two batches, never waits, and changes nothing in the store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from msgspec import UNSET, Raw, UnsetType

from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.protocol.messages import Message
from dtm.server.events import log_events, logs_every_task
from dtm.server.openbatch import OpenBatch
from dtm.server.roster import Outlet, Roster
from dtm.server.updates import moved, said
from dtm.server.watchers import Watchers
from dtm.storage.batch import Failure, Report
from dtm.storage.receipt import Assigned, Ended, Receipt, Refused, Stopped, Verdict

Sent = dict[Outlet, list[Message]]
Answer = TypeVar("Answer")


class Delivery:
    """Passes receipts on to the connections."""

    def __init__(self, roster: Roster, watchers: Watchers, on_audited: Callable[[], None]) -> None:
        self._roster = roster
        self._watchers = watchers
        self._on_audited = on_audited
        self._logs_every_task = logs_every_task()

    def __call__(self, taken: OpenBatch, receipt: Receipt) -> None:
        """Tell everybody what the batch has done to what concerns them."""
        _answer(receipt.registrations, taken.on_registered)
        news: Sent = defaultdict(list)
        self._stops(news, receipt.stopped)
        self._tasks(news, receipt.assigned)
        self._updates(news, said(receipt.progressed))
        self._notices(news, receipt.ended)
        _answer(receipt.submissions, taken.on_submitted)
        # Whoever has just submitted a task may follow it from now on.
        self._updates(news, moved(receipt))
        _answer(receipt.cancellations, taken.on_cancelled)
        _answer(receipt.commands, taken.on_resolved)
        _answer(receipt.prunings, taken.on_pruned)
        sent: Sent = defaultdict(list)
        self._verdicts(sent, taken, receipt.reports)
        # First to those that wait for it to go on; whoever asked is answered in the next turn of the loop.
        for outlet, its_news in news.items():
            outlet.send([*sent.pop(outlet, ()), *its_news])
            outlet.flush()
        for outlet, its_messages in sent.items():
            outlet.send(its_messages)
        log_events(taken.batch, receipt, every_task=self._logs_every_task)
        if receipt.audited:
            self._on_audited()

    def _verdicts(self, sent: Sent, taken: OpenBatch, verdicts: Iterable[Verdict | Refused]) -> None:
        for report, reporter, verdict in zip(taken.batch.reports, taken.reporters, verdicts, strict=True):
            sent[reporter].append(_response(report, verdict))

    def _tasks(self, news: Sent, assigned: Iterable[Assigned]) -> None:
        for task in assigned:
            member = self._roster.find(task.client_id)
            if member is None:
                continue  # it left while the batch was on its way to the disk; its departure takes the task back
            member.held.add(task.assignment_id)
            news[member.outlet].append(
                messages.Task(
                    task_id=task.task_id,
                    assignment=task.assignment_id,
                    kind=task.kind,
                    payload=Raw(task.payload.encode()),
                    retry_count=task.retry_count,
                    timeout=None if task.timeout is None else task.timeout / 1_000_000,
                )
            )

    def _stops(self, news: Sent, stopped: Iterable[Stopped]) -> None:
        for stop in stopped:
            member = self._roster.find(stop.client_id)
            # Whoever is away hears of it when it comes back with the assignment; what is over it does not get back.
            if member is not None:
                news[member.outlet].append(messages.Cancel(stop.task_id, stop.assignment_id, stop.reason))

    def _updates(self, news: Sent, updates: Iterable[messages.TaskUpdate]) -> None:
        if not self._watchers.anybody_follows:
            return
        for task_id, update in {update.task_id: update for update in updates}.items():
            for outlet in self._watchers.following(task_id):
                news[outlet].append(update)

    def _notices(self, news: Sent, ended: Iterable[Ended]) -> None:
        for task in ended:
            for outlet in self._watchers.finished(task.task_id):
                news[outlet].append(notice(task.task_id, task.state, task.value, task.failure))


def _answer(answers: Sequence[Answer], callers: Sequence[Callable[[Answer], None]]) -> None:
    for answer, then in zip(answers, callers, strict=True):
        then(answer)


def _response(report: Report, verdict: Verdict | Refused) -> Message:
    if isinstance(verdict, Refused):
        return messages.Error(ErrorCode.REFUSED, f"assignment {report.assignment_id}: {verdict.reason}")
    return messages.ResultResponse(
        task_id=report.task_id,
        assignment=report.assignment_id,
        status="accepted" if verdict.accepted else "stale",
        state=verdict.state,
    )


def notice(task_id: int, state: str, value: str | None, failure: Failure | None) -> messages.TaskFinished:
    """Write the message that tells how a task has ended."""
    return messages.TaskFinished(
        task_id=task_id,
        state=state,
        value=wire_value(value),
        error=wire_failure(failure),
    )


def wire_value(value: str | None) -> Raw | UnsetType:
    """Write a result as the wire has it."""
    return UNSET if value is None else Raw(value.encode())


def wire_failure(failure: Failure | None) -> messages.Failure | UnsetType:
    """Write a failure as the wire has it."""
    return UNSET if failure is None else messages.Failure(failure.type, failure.message, failure.traceback)
