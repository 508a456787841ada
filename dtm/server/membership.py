"""A connection's part as a worker: it joins, takes tasks, reports on them, and leaves.

Knows no bytes and no SQL, and decides nothing about tasks.
"""

from __future__ import annotations

import structlog

from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.protocol.framing import AROUND_VALUE
from dtm.protocol.messages import PROTOCOL_VERSION
from dtm.server import translate
from dtm.server.hub import Hub
from dtm.server.roster import Member, Outlet
from dtm.server.translate import Unacceptable
from dtm.storage.batch import Change, Departure, Failed, Registration, Released, Report, Success, Why
from dtm.storage.receipt import Refused, Registered

log = structlog.get_logger()


class Membership:
    """What the server knows of one connection's worker, if there is one."""

    def __init__(self, hub: Hub, *, outlet: Outlet, address: str) -> None:
        self._hub = hub
        self._outlet = outlet
        self._address = address
        self._member: Member | None = None
        self._is_registering = False
        self._has_left = False

    def heard(self) -> None:
        """Note that the worker is alive."""
        if self._member is not None:
            self._member.heard_s = self._hub.clock.monotonic_s()

    def leave(self, *, said_goodbye: bool) -> None:
        """Note that the connection is gone."""
        self._has_left = True
        hub, member = self._hub, self._member
        if member is None or hub.roster.find(member.client_id) is not member:
            return
        if said_goodbye:
            hub.roster.forget(member.client_id)
            hub.committer.depart(Departure(member.client_id, Why.GOODBYE))
            return
        log.info("client.disconnect", client=member.client_id, name=member.name, tasks=len(member.held))
        deadline_s = hub.clock.monotonic_s() + hub.settings.reconnect_grace_s
        hub.roster.expect_back(member.client_id, deadline_s, Why.CONNECTION_LOST)

    def register(self, message: messages.Register) -> None:
        """Let the worker in, or note that it takes other kinds or another number of tasks."""
        if self._is_registering:
            raise Unacceptable(ErrorCode.BAD_MESSAGE, "wanted one Register at a time, and its answer in between")
        if self._hub.is_draining:
            raise Unacceptable(ErrorCode.SHUTTING_DOWN, "the server is shutting down; come back later")
        if self._member is not None:
            self._change(self._member, frozenset(message.kinds), message.capacity)
            self._welcome(self._member, lost=[id for id in message.resume if id not in self._member.held])
            return
        self._hub.committer.require_room()
        self._is_registering = True
        registration = Registration(
            message.name,
            self._address,
            tuple(dict.fromkeys(message.kinds)),
            message.capacity,
            tuple(message.resume),
            message.instance,
        )
        self._hub.committer.register(registration, lambda answer: self._joined(message, answer))

    def capacity(self, message: messages.Capacity) -> None:
        """Note how many tasks the worker takes from now on."""
        member = self._registered()
        self._change(member, member.kinds, message.capacity)

    def result(self, message: messages.Result) -> None:
        """Pass on how an assignment went."""
        self._report(message, translate.outcome(message))

    def release(self, message: messages.Release) -> None:
        """Pass on that an assignment comes back unstarted."""
        self._report(message, translate.release(message))

    def progress(self, message: messages.Progress) -> None:
        """Pass on how far an assignment has come."""
        if message.assignment in self._registered().held:
            self._hub.committer.note_progress(message.assignment, message.task_id, translate.progress(message))

    def _joined(self, message: messages.Register, answer: Registered | Refused) -> None:
        self._is_registering = False
        if isinstance(answer, Refused):
            self._outlet.send([translate.left_out(answer, message)])
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
            deadline_s = hub.clock.monotonic_s() + hub.settings.reconnect_grace_s
            hub.roster.expect_back(member.client_id, deadline_s, Why.CONNECTION_LOST)
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
        settings, identity = self._hub.settings, self._hub.committer.identity
        response = messages.RegisterResponse(
            client_id=member.client_id,
            server=self._hub.name,
            protocol=PROTOCOL_VERSION,
            heartbeat_interval=settings.heartbeat_interval_s,
            heartbeat_timeout=settings.heartbeat_timeout_s,
            resumed=sorted(member.held),
            lost=lost,
            max_value=settings.limits.max_line - AROUND_VALUE,
            store=identity.store,
            epoch=identity.epoch,
        )
        self._outlet.send([response])

    def _change(self, member: Member, kinds: frozenset[str], capacity: int) -> None:
        member.kinds, member.capacity = kinds, capacity
        self._hub.committer.change(Change(member.client_id, tuple(sorted(kinds)), capacity))

    def _report(self, message: messages.Result | messages.Release, outcome: Success | Failed | Released) -> None:
        member = self._registered()
        # Its place is free whatever the verdict will be, and may be filled by the same commit.
        member.held.discard(message.assignment)
        self._hub.committer.report(Report(member.client_id, message.task_id, message.assignment, outcome), self._outlet)

    def _registered(self) -> Member:
        if self._member is None:
            raise Unacceptable(ErrorCode.NOT_REGISTERED, "wanted Register first, and its answer")
        return self._member
