"""One client's conversation: what it says goes into the open batch, the answers come once that is committed.

Knows no bytes and no SQL, and decides nothing about tasks.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from msgspec import UNSET, Raw

from dtm.core.lifecycle import ENDED
from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.protocol.framing import MAX_LINE
from dtm.protocol.messages import PROTOCOL_VERSION, ClientMessage
from dtm.server import translate
from dtm.server.delivery import notice, wire_failure, wire_value
from dtm.server.hub import Hub
from dtm.server.roster import Member, Outlet
from dtm.server.translate import Unacceptable
from dtm.storage.batch import Change, Departure, Failed, Registration, Released, Report, Success, Why
from dtm.storage.reader import TaskRow
from dtm.storage.receipt import Refused, Registered, Resolved, Submitted

log = structlog.get_logger()


class Session:
    """What the server knows of one connection's peer."""

    def __init__(self, hub: Hub, *, outlet: Outlet, address: str) -> None:
        self._hub = hub
        self._outlet = outlet
        self._address = address
        self._member: Member | None = None
        self._is_registering = False
        self._said_goodbye = False
        self._has_left = False
        self._does: dict[type, Callable[[Any], None]] = {
            messages.Result: self._result,
            messages.Submit: self._submit,
            messages.PingRequest: self._ping,
            messages.Release: self._release,
            messages.Register: self._register,
            messages.Capacity: self._capacity,
            messages.Admin: self._admin,
            messages.Goodbye: self._goodbye,
        }

    @property
    def is_over(self) -> bool:
        """Whether the peer has nothing more to say."""
        return self._said_goodbye

    def heard(self) -> None:
        """Note that the peer is alive."""
        if self._member is not None:
            self._member.heard_s = self._hub.clock.monotonic_s()

    async def answered(self) -> None:
        """Wait until everything the peer asked for has been committed and answered."""
        await self._hub.committer.caught_up()

    def leave(self) -> None:
        """Note that the connection is gone."""
        self._has_left = True
        hub, member = self._hub, self._member
        hub.watchers.forget(self._outlet)
        if member is None or hub.roster.find(member.client_id) is not member:
            return
        if self._said_goodbye:
            hub.roster.forget(member.client_id)
            hub.committer.depart(Departure(member.client_id, Why.GOODBYE))
            return
        log.info("client.disconnect", client=member.client_id, name=member.name, tasks=len(member.held))
        deadline_s = hub.clock.monotonic_s() + hub.settings.reconnect_grace_s
        hub.roster.expect_back(member.client_id, deadline_s, Why.CONNECTION_LOST)

    async def take(self, message: ClientMessage) -> None:
        """Do what the peer asks for; only a look into the store takes time."""
        try:
            if isinstance(message, messages.Query):
                await self._query(message)
            else:
                self._does[type(message)](message)
        except Unacceptable as error:
            self._refuse(error.code, str(error), message)

    def _ping(self, message: messages.PingRequest) -> None:
        self._outlet.send([messages.PingResponse(message.timestamp)])

    def _goodbye(self, _: messages.Goodbye) -> None:
        self._said_goodbye = True

    # A worker's part.

    def _register(self, message: messages.Register) -> None:
        if self._is_registering:
            raise Unacceptable(ErrorCode.BAD_MESSAGE, "wanted one Register at a time, and its answer in between")
        if self._hub.is_draining:
            raise Unacceptable(ErrorCode.SHUTTING_DOWN, "the server is shutting down; come back later")
        if self._member is not None:
            self._change(self._member, frozenset(message.kinds), message.capacity)
            self._welcome(self._member, lost=[id for id in message.resume if id not in self._member.held])
            return
        self._is_registering = True
        registration = Registration(
            message.name, self._address, tuple(dict.fromkeys(message.kinds)), message.capacity, tuple(message.resume)
        )
        self._hub.committer.register(registration, lambda answer: self._joined(message, answer))

    def _joined(self, message: messages.Register, answer: Registered | Refused) -> None:
        self._is_registering = False
        if isinstance(answer, Refused):
            self._refuse(ErrorCode.REFUSED, answer.reason, message)
            return
        hub = self._hub
        for id in answer.earlier:
            earlier = hub.roster.forget(id)
            if earlier is not None:
                earlier.outlet.cut(f"client {earlier.name} came back on another connection")
        member = Member(
            answer.client_id,
            message.name,
            self._outlet,
            kinds=frozenset(message.kinds),
            capacity=message.capacity,
        )
        member.held.update(id for id, _ in answer.resumed)
        self._member = member
        if self._has_left:
            hub.roster.expect_back(member.client_id, hub.clock.monotonic_s(), Why.CONNECTION_LOST)
            return
        hub.roster.join(member, hub.clock.monotonic_s())
        log.info(
            "client.register",
            client=member.client_id,
            name=member.name,
            address=self._address,
            kinds=sorted(member.kinds),
            capacity=member.capacity,
            resumed=len(answer.resumed),
        )
        self._welcome(member, lost=list(answer.lost))
        hub.committer.wake()

    def _welcome(self, member: Member, *, lost: list[int]) -> None:
        settings = self._hub.settings
        response = messages.RegisterResponse(
            client_id=member.client_id,
            server=self._hub.name,
            protocol=PROTOCOL_VERSION,
            heartbeat_interval=settings.heartbeat_interval_s,
            heartbeat_timeout=settings.heartbeat_timeout_s,
            resumed=sorted(member.held),
            lost=lost,
        )
        self._outlet.send([response])

    def _capacity(self, message: messages.Capacity) -> None:
        member = self._registered()
        self._change(member, member.kinds, message.capacity)

    def _change(self, member: Member, kinds: frozenset[str], capacity: int) -> None:
        member.kinds, member.capacity = kinds, capacity
        self._hub.committer.change(Change(member.client_id, tuple(sorted(kinds)), capacity))

    def _result(self, message: messages.Result) -> None:
        self._report(message, translate.outcome(message))

    def _release(self, message: messages.Release) -> None:
        self._report(message, Released())

    def _report(self, message: messages.Result | messages.Release, outcome: Success | Failed | Released) -> None:
        member = self._registered()
        # Its place is free whatever the verdict will be, and may be filled by the same commit.
        member.held.discard(message.assignment)
        self._hub.committer.report(Report(member.client_id, message.task_id, message.assignment, outcome), self._outlet)

    def _registered(self) -> Member:
        if self._member is None:
            raise Unacceptable(ErrorCode.NOT_REGISTERED, "wanted Register first, and its answer")
        return self._member

    # A producer's part.

    def _submit(self, message: messages.Submit) -> None:
        if self._hub.is_draining:
            raise Unacceptable(ErrorCode.SHUTTING_DOWN, "the server is shutting down; submit again later")
        submission = translate.submission(message)
        self._hub.committer.submit(submission, lambda answer: self._submitted(message, answer))

    def _submitted(self, message: messages.Submit, answer: Submitted | Refused) -> None:
        if isinstance(answer, Refused):
            code = ErrorCode.KEY_CONFLICT if answer.is_conflict else ErrorCode.REFUSED
            self._refuse(code, answer.reason, message)
            return
        self._outlet.send([messages.SubmitResponse(message.ref, answer.ids, answer.duplicates)])
        if message.notify and not self._has_left:
            self._hub.watchers.watch(self._outlet, answer.ids)
            if answer.duplicates:
                self._hub.background(self._tell_of_ended, answer.duplicates)

    async def _tell_of_ended(self, ids: list[int]) -> None:
        for task in await self._hub.lookup.tasks(ids):
            if task is not None and task.state in ENDED:
                self._hub.watchers.unwatch(self._outlet, task.id)
                self._outlet.send([notice(task.id, task.state, task.result, task.failure)])

    async def _query(self, message: messages.Query) -> None:
        if message.notify:
            # Before the look: whatever ends in between is told twice rather than never.
            self._hub.watchers.watch(self._outlet, message.ids)
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

    # An operator's part.

    def _admin(self, message: messages.Admin) -> None:
        if not hmac.compare_digest(message.secret.encode(), self._hub.secret.encode()):
            raise Unacceptable(ErrorCode.FORBIDDEN, "wanted this server's admin secret")
        command = translate.command(message)
        self._hub.committer.command(command, lambda answer: self._resolved(message, answer))

    def _resolved(self, message: messages.Admin, answer: Resolved | Refused) -> None:
        if isinstance(answer, Refused):
            self._refuse(ErrorCode.REFUSED, answer.reason, message)
        else:
            result = Raw(msgspec.json.encode({"done": answer.done, "left": answer.left}))
            self._outlet.send([messages.AdminResponse(message.ref, result)])

    # Answers.

    def _refuse(self, code: ErrorCode, reason: str, message: ClientMessage) -> None:
        self._outlet.send([messages.Error(code, reason, getattr(message, "ref", UNSET))])


def _status(task: TaskRow) -> messages.TaskStatus:
    return messages.TaskStatus(
        task_id=task.id,
        kind=task.kind,
        state=task.state,
        retry_count=task.retry_count,
        max_retries=task.max_retries,
        value=wire_value(task.result),
        error=wire_failure(task.failure),
    )
