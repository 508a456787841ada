"""The worker: connects for ever, runs what comes, and leaves in good order.

What it holds outlives its connections: after a break it comes back, names its assignments, and sends again every result
that was not acknowledged.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import anyio
import structlog
from anyio import Event, create_task_group, move_on_after
from msgspec import Struct

from dtm.client.handlers import Handlers
from dtm.client.link import Connect, Link, LinkLost, Unreachable
from dtm.client.prefetch import Prefetch
from dtm.client.service import Service
from dtm.client.slots import Slots
from dtm.client.workload import Workload
from dtm.core.backoff import Backoff
from dtm.protocol.messages import ClientMessage, RegisterResponse
from dtm.security.errors import NotAdmitted

LOOK_AFTER_S = 0.25
# How long coroutines and processes that are stopped at the end may take to clean up.
STOP_S = 3.0
# With the seconds that a try may take, still no more than five from the end of trouble to a new connection.
BACKOFF = Backoff(0.1, 3.0)

log = structlog.get_logger()


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """How a worker is to run. Durations are seconds."""

    host: str
    port: int
    name: str
    concurrency: int
    shutdown_timeout_s: float


class Worker:
    """A client that runs tasks until it is told to stop. Made and run in an event loop."""

    def __init__(
        self,
        settings: WorkerSettings,
        handlers: Handlers,
        prefetch: Prefetch,
        *,
        connect: Connect,
        slots: Callable[[int, Callable[[], object]], Slots],
        chance: random.Random,
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._chance = chance
        # Tells the server that it is the same process that comes back, even with nothing in its hands.
        self._instance = f"{chance.getrandbits(128):032x}"
        self._service: Service | None = None
        self._failures = 0
        # Whoever was let in once waits for better times: his token may be put back, his tasks may run on.
        self._was_admitted = False
        self._store: tuple[str, int] | None = None
        loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = loop.create_future()
        self._workload = Workload(
            handlers,
            concurrency=settings.concurrency,
            prefetch=prefetch,
            slots=slots(settings.concurrency, partial(_call, loop, self._harvest)),
        )

    async def run(self, stop: Event, now: Event) -> int:
        """Run tasks until `stop`, then finish what has begun and give the rest back; after `now` without waiting.

        Returns:
            How many tasks had begun whose results the server has not acknowledged. They will run again.

        Raises:
            ExceptionGroup: of `NotAdmitted`, if this worker and the server refuse each other from the beginning.
        """
        try:
            await self._run(stop, now)
        finally:
            self._workload.end()
        return self._workload.unfinished

    async def _run(self, stop: Event, now: Event) -> None:
        async with create_task_group() as group:
            group.start_soon(self._fail)
            group.start_soon(self._look_after_forever)
            group.start_soon(self._connect_forever)
            await stop.wait()
            log.info("stopping", held=self._workload.unfinished)
            self._say(self._workload.close())
            await self._within(self._settings.shutdown_timeout_s, self._workload.emptied, now)
            self._workload.stop()
            await self._within(STOP_S, self._workload.stopped, now)
            self._say(self._workload.harvest())
            if self._service is not None:
                await self._service.leave()
            group.cancel_scope.cancel()

    async def _within(self, most_s: float, wait: Callable[[], Awaitable[None]], now: Event) -> None:
        async def cut_short() -> None:
            await now.wait()
            waiting.cancel_scope.cancel()

        with move_on_after(most_s):
            async with create_task_group() as waiting:
                waiting.start_soon(cut_short)
                await wait()
                waiting.cancel_scope.cancel()

    def _harvest(self) -> None:
        try:
            self._say(self._workload.harvest())
            if self._service is not None:
                self._service.flush()
        except Exception as error:  # noqa: BLE001  it is raised where the worker runs
            if not self._failed.done():
                self._failed.set_exception(error)

    async def _fail(self) -> None:
        await self._failed

    async def _look_after_forever(self) -> None:
        while True:
            await anyio.sleep(LOOK_AFTER_S)
            self._say(self._workload.look_after(anyio.current_time()))

    async def _connect_forever(self) -> None:
        settings = self._settings
        while True:
            try:
                link = await Link.open(settings.host, settings.port, self._connect)
                self._service = Service(
                    link, self._workload, self._admitted, name=settings.name, instance=self._instance
                )
                await self._service.run()
            except (Unreachable, LinkLost, NotAdmitted) as error:
                self._service = None
                if isinstance(error, NotAdmitted) and not self._was_admitted:
                    raise
                self._failures += 1
                pause_s = BACKOFF.delay_s(self._failures, self._chance.random())
                log.warning("disconnected", reason=str(error), retry_in_s=round(pause_s, 2))
                await anyio.sleep(pause_s)

    def _say(self, messages: Iterable[ClientMessage]) -> None:
        if self._service is not None:
            self._service.say(messages)

    def _admitted(self, welcome: RegisterResponse) -> None:
        self._failures = 0
        self._was_admitted = True
        before, self._store = self._store, (welcome.store, welcome.epoch)
        if before is not None and (before[0] != welcome.store or before[1] > welcome.epoch):
            log.warning(
                "store.changed",
                why="it was restored from a backup, or this is another one: what was held of it is stale",
                store=welcome.store,
                epoch=welcome.epoch,
            )


def _call(loop: asyncio.AbstractEventLoop, harvest: Callable[[], None]) -> None:
    try:
        # No task in between: each wakes in a turn of the loop of its own.
        loop.call_soon_threadsafe(harvest)
    except RuntimeError:
        pass  # the loop has ended with the worker: nobody waits for what still ran
