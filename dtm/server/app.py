"""The server, put together: what it opens in which order, what it supervises, and how it ends."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack, closing
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio
import msgspec
import structlog
from anyio import CancelScope, Event, create_task_group, move_on_after
from anyio.abc import ByteStream, TaskGroup
from msgspec import Struct

from dtm.protocol.messages import ShuttingDown
from dtm.server import monitor
from dtm.server.admission import Access
from dtm.server.audit_log import AuditLog
from dtm.server.bell import Bell
from dtm.server.committer import Committer
from dtm.server.connection import Connection
from dtm.server.delivery import Delivery
from dtm.server.demo import produce
from dtm.server.disk import Disk
from dtm.server.gate import Gate
from dtm.server.hub import Hub
from dtm.server.listener import Listener, accept_forever, port_of
from dtm.server.lookup import Lookup
from dtm.server.machine import InOrder, Machine
from dtm.server.projector import Projector
from dtm.server.protection import access_of
from dtm.server.pruner import prune
from dtm.server.roster import Roster
from dtm.server.rules import balance_of, policy_of
from dtm.server.secure import secured
from dtm.server.settings import Settings
from dtm.server.watchers import Watchers
from dtm.storage.batch import Why
from dtm.storage.engine import SAFE_SQLITE
from dtm.storage.lock import Holder, StoreLock
from dtm.storage.migrate import prepare
from dtm.storage.reader import Reader
from dtm.storage.store import Store

log = structlog.get_logger()

NAME = f"dtm {version('durable-task-manager')}"

LAST_WRITES_S = 5.0
# An admin command may hold the lock for a moment; another server holds it for ever, and is to be told of in a second.
LOCK_WAIT_S = 0.25
# The writer comes back so often to see whether it is to stop; how long it goes on trying is --busy-timeout's.
LOCK_TRY_S = 0.25


class StopRequest(Struct, frozen=True):
    """How a server is told to end: to drain first, or at once. Until then it can be asked to rotate its log."""

    drain: Event
    now: Event
    rotate: Bell = msgspec.field(default_factory=Bell)


class OpenStore(Struct, frozen=True):
    """The store, open for writing, in a lane of its own, and for looking on.

    Operators have a reader of their own: their long looks keep nobody else waiting.
    """

    store: Store
    lane: InOrder
    clients: Reader
    operators: Reader


async def serve(settings: Settings, stop: StopRequest, machine: Machine) -> None:
    """Run a server on `machine` until `stop` asks for its end and everything is on disk.

    Raises:
        DtmError: it cannot start, with the reason and what to do.
        ExceptionGroup: a part of it failed (above all `StoreFailed`); it has stopped answering.
    """
    secret = secrets.token_hex(32)
    access = access_of(settings, secret)
    with ExitStack() as stack:
        lock = StoreLock(settings.db)
        lock.acquire(wait_s=LOCK_WAIT_S)
        stack.callback(lock.release)
        how = prepare(settings.db)
        store = Store.open(
            settings.db,
            policy=policy_of(settings, machine.chance),
            balance=balance_of(settings, machine.chance),
            numbers_above=machine.clock.now(),
        )
        stack.callback(store.close)
        store.wait_for_lock(LOCK_TRY_S)
        reader, log_reader, operators_reader = (
            stack.enter_context(closing(Reader.open_known(settings.db))) for _ in range(3)
        )
        opened = OpenStore(store, stack.enter_context(machine.lane()), reader, operators_reader)
        file = AuditLog(settings.dead_letter_log)
        stack.callback(file.close)
        projector = Projector(log_reader, file, machine.in_thread)
        projector.start()
        log.info("database", path=str(settings.db), state=how, sqlite=sqlite3.sqlite_version)
        disk = Disk(settings.db, lock.file, settings.dead_letter_log.parent, min_free=settings.limits.min_free_disk)
        disk.look()
        listeners = await machine.listen(settings.host, settings.port)
        server = Server(
            settings,
            machine,
            access,
            opened=opened,
            projector=projector,
            disk=disk,
        )
        holder = Holder(os.getpid(), settings.host, port_of(listeners), secret, access.fingerprint)
        try:
            await server.run(listeners, partial(lock.announce, holder), stop)
        finally:
            with CancelScope(shield=True):
                for listener in listeners:
                    await listener.aclose()


class Server:
    """The running parts of a server."""

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        access: Access,
        *,
        opened: OpenStore,
        projector: Projector,
        disk: Disk,
    ) -> None:
        self._settings = settings
        self._machine = machine
        self._access = access
        self._opened = opened
        self._projector = projector
        self._disk = disk
        self._roster = Roster()
        self._watchers = Watchers()
        self._gate = Gate(settings.limits)
        self._committer = Committer(
            opened.store, self._roster, machine.clock, in_order=opened.lane, limits=settings.limits
        )
        # In the order in which they came; a set would have another order in each run.
        self._connections: dict[Connection, None] = {}

    async def run(self, listeners: Sequence[Listener], announce: Callable[[], None], stop: StopRequest) -> None:
        """Serve `listeners` until told to stop; `announce` tells that they are served. Any part's failure ends all."""
        host, port = self._settings.host, port_of(listeners)
        for client_id in self._opened.clients.present_clients():
            # It was connected when the last server ended. It has this long to come back before it counts as dead.
            back_by_s = self._machine.clock.monotonic_s() + self._settings.heartbeat_timeout_s
            self._roster.expect_back(client_id, back_by_s, Why.NOT_BACK)
        if self._opened.store.next_deadline_at is not None:
            # Whoever had an attempt running may hold its result, and has as long to come back.
            now_s = self._machine.clock.monotonic_s()
            self._committer.spare_overdue(now_s + self._settings.heartbeat_timeout_s)
        self._committer.note_log_position(self._projector.position)
        async with create_task_group() as parts:
            hub = self._hub(parts)
            parts.start_soon(self._committer.run, Delivery(self._roster, self._watchers, self._projector.wake))
            parts.start_soon(self._projector.run, self._committer.note_log_position)
            parts.start_soon(_at_each_ring, stop.rotate, self._projector.rotate)
            parts.start_soon(monitor.watch, hub, lambda: self._committer.next_due_at)
            parts.start_soon(monitor.report_statistics, hub)
            parts.start_soon(prune, hub)
            if self._settings.demo:
                parts.start_soon(produce, hub, self._machine.chance)
            async with create_task_group() as connections:
                async with create_task_group() as accepting:
                    for listener in listeners:
                        accepting.start_soon(accept_forever, listener, partial(self._connect, hub), connections)
                    announce()
                    log.info("listening", address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
                    _warn_of_old_sqlite()
                    await stop.drain.wait()
                    accepting.cancel_scope.cancel()
                for listener in listeners:
                    await listener.aclose()
                await self._drain(hub, stop.now)
                for connection in self._connections:
                    connection.close()
                connections.cancel_scope.deadline = anyio.current_time() + LAST_WRITES_S
            parts.cancel_scope.cancel()
        self._projector.catch_up()
        log.info("stopped")

    def _hub(self, parts: TaskGroup) -> Hub:
        return Hub(
            name=NAME,
            access=self._access,
            settings=self._settings,
            gate=self._gate,
            disk=self._disk,
            clock=self._machine.clock,
            roster=self._roster,
            watchers=self._watchers,
            committer=self._committer,
            lookup=Lookup(self._opened.clients, self._machine.in_thread),
            inquiries=Lookup(self._opened.operators, self._machine.in_thread),
            background=partial(_start, parts),
        )

    async def _connect(self, hub: Hub, stream: ByteStream) -> None:
        # A connection that can talk is told why it is turned away; until then it is cut.
        with CancelScope() as scope, self._gate.entered(lambda _: scope.cancel()) as place:
            safe = await self._secured(stream)
            if safe is None:
                return
            connection = Connection(safe, hub, place)
            self._connections[connection] = None
            try:
                await connection.run()
            finally:
                self._connections.pop(connection)

    async def _secured(self, stream: ByteStream) -> ByteStream | None:
        if self._access.tls is None:
            return stream
        return await secured(stream, self._access.tls, deadline_s=self._settings.limits.first_message_deadline_s)

    async def _drain(self, hub: Hub, now: Event) -> None:
        """Give no more tasks out, let those that run finish, and take back the rest without blame."""
        log.info("draining", timeout_s=self._settings.shutdown_timeout_s)
        hub.is_draining = True
        self._roster.close()
        for connection in self._connections:
            connection.send([ShuttingDown()])
        async with create_task_group() as waiting:
            waiting.start_soon(_first_of, now.wait, waiting)
            waiting.start_soon(_first_of, self._handed_in, waiting)
            waiting.start_soon(_first_of, partial(anyio.sleep, self._settings.shutdown_timeout_s), waiting)
        with move_on_after(LAST_WRITES_S):
            # Whoever was on the way in is here after that; nobody follows.
            await self._committer.idle()
        for departure in self._roster.dismiss(Why.DRAINED):
            self._committer.depart(departure)
        self._committer.note_log_position(self._projector.position)
        with move_on_after(LAST_WRITES_S):
            await self._committer.idle()

    async def _handed_in(self) -> None:
        # What is on its way to the disk may still give tasks out.
        await self._committer.idle()
        while self._roster.holds_anything():
            await self._committer.delivered()


def _start(parts: TaskGroup, run: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
    parts.start_soon(partial(run, *arguments))


async def _at_each_ring(bell: Bell, act: Callable[[], None]) -> None:
    while True:
        await bell.heard()
        act()


async def _first_of(wait: Callable[[], Awaitable[object]], group: TaskGroup) -> None:
    await wait()
    group.cancel_scope.cancel()


def _warn_of_old_sqlite() -> None:
    if sqlite3.sqlite_version_info < SAFE_SQLITE:
        log.warning(
            "sqlite.old",
            found=sqlite3.sqlite_version,
            wanted=".".join(map(str, SAFE_SQLITE)),
            why="open the database with no other program that writes while the server runs",
        )
