"""A connection's part as a producer: it submits and asks.

Knows no bytes and no SQL, and decides nothing about tasks.
"""

from __future__ import annotations

import msgspec

from dtm.core.lifecycle import ENDED, State
from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.protocol.framing import MAX_LINE
from dtm.server import translate
from dtm.server.delivery import notice, wire_failure, wire_value
from dtm.server.hub import Hub
from dtm.server.roster import Outlet
from dtm.server.translate import Unacceptable
from dtm.storage.batch import Cancellation
from dtm.storage.receipt import Cancelled, Refused, Submitted
from dtm.storage.view import TaskRow


class Requests:
    """What one connection asks for, and the answers."""

    def __init__(self, hub: Hub, *, outlet: Outlet) -> None:
        self._hub = hub
        self._outlet = outlet
        self._has_left = False

    def leave(self) -> None:
        """Note that the connection is gone."""
        self._has_left = True
        self._hub.watchers.forget(self._outlet)

    def submit(self, message: messages.Submit) -> None:
        """Have tasks taken in, and answer once they are on disk."""
        if self._hub.is_draining:
            raise Unacceptable(ErrorCode.SHUTTING_DOWN, "the server is shutting down; submit again later")
        if self._hub.disk.is_low:
            raise Unacceptable(ErrorCode.LOW_DISK, self._hub.disk.complaint)
        self._hub.committer.require_room()
        submission = translate.submission(message, self._hub.settings.limits)
        self._hub.committer.submit(submission, lambda answer: self._submitted(message, answer))

    async def query(self, message: messages.Query) -> None:
        """Tell how tasks stand."""
        if message.notify or message.updates:
            # Before the look: whatever ends in between is told twice rather than never.
            self._hub.watchers.watch(self._outlet, message.ids, follows=message.updates)
        tasks = await self._hub.lookup.tasks(message.ids)
        for id, task in zip(message.ids, tasks, strict=True):
            if task is None or task.state in ENDED:
                self._hub.watchers.unwatch(self._outlet, id)
        response = messages.QueryResponse(message.ref, [None if task is None else _status(task) for task in tasks])
        if len(msgspec.json.encode(response)) > MAX_LINE:
            raise Unacceptable(
                ErrorCode.RESPONSE_TOO_LARGE, "the answer is longer than a line may be; ask for fewer ids"
            )
        self._outlet.send([response])

    def cancel(self, message: messages.CancelRequest) -> None:
        """Have tasks cancelled, and answer once that is on disk."""
        self._hub.committer.require_room()
        self._hub.committer.cancel(Cancellation(tuple(message.ids)), lambda answer: self._cancelled(message, answer))

    def _submitted(self, message: messages.Submit, answer: Submitted | Refused) -> None:
        if isinstance(answer, Refused):
            self._outlet.send([translate.left_out(answer, message)])
            return
        self._outlet.send([messages.SubmitResponse(message.ref, answer.ids, answer.duplicates)])
        if (message.notify or message.updates) and not self._has_left:
            self._hub.watchers.watch(self._outlet, answer.ids, follows=message.updates)
            if answer.duplicates:
                self._hub.background(self._tell_of_ended, answer.duplicates)

    def _cancelled(self, message: messages.CancelRequest, answer: Cancelled | Refused) -> None:
        if isinstance(answer, Refused):
            self._outlet.send([translate.left_out(answer, message)])
        else:
            self._outlet.send([messages.CancelResponse(message.ref, answer.states)])

    async def _tell_of_ended(self, ids: list[int]) -> None:
        for task in await self._hub.lookup.tasks(ids):
            if task is not None and task.state in ENDED:
                self._hub.watchers.unwatch(self._outlet, task.id)
                self._outlet.send([notice(task.id, task.state, task.result, task.failure)])


def _status(task: TaskRow) -> messages.TaskStatus:
    return messages.TaskStatus(
        task_id=task.id,
        kind=task.kind,
        state=task.state,
        retry_count=task.retry_count,
        max_retries=task.max_retries,
        value=wire_value(task.result),
        error=wire_failure(task.failure),
        fraction=None if task.progress is None else task.progress.fraction,
        note="" if task.progress is None else task.progress.note,
        run_at=task.run_at / 1_000_000 if task.state == State.SCHEDULED and task.run_at is not None else None,
        cancel_requested=task.cancel_requested_at is not None,
    )
