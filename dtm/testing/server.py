"""A real server and a worker in threads of this process, on a database that is gone afterwards."""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType

import structlog
from anyio import Event, create_task_group
from anyio.from_thread import start_blocking_portal
from msgspec import structs

from dtm.client.dial import dial
from dtm.client.pool.sources import require_sources
from dtm.client.prefetch import FixedPrefetch
from dtm.client.slots import threads
from dtm.client.worker import Worker, WorkerSettings
from dtm.core.addresses import Address
from dtm.security.credentials import Credentials
from dtm.security.files import CredentialFiles
from dtm.server.app import StopRequest, serve
from dtm.server.listener import Listener, port_of
from dtm.server.machine import Machine, this_machine
from dtm.server.settings import Settings
from dtm.tasks.app import App
from dtm.tasks.server import Server, variables

HOST = "127.0.0.1"
# A test waits for each of these: what takes a second in the field takes a hundredth here.
RETRY_BACKOFF_S = (0.01, 0.1)
DISPATCH_CHECK_S = 0.02
HEARTBEAT_CHECK_S = 0.2


class TestServer:
    """A server that runs."""

    __test__ = False  # else pytest takes it for a class of tests

    def __init__(self, address: str, db: Path) -> None:
        self.address = address
        """Where it listens: what `--server` and `dtm.App(…)` take."""
        self.db = db
        """Its database, for whoever wants to look into it."""


class _Unguarded(Server, frozen=True):
    """A server that wants no credentials, whatever the environment has for a real one."""

    def find(self, environment: Mapping[str, str] = MappingProxyType({})) -> tuple[Address, CredentialFiles]:
        """Give the address, and no files."""
        return super().find(environment)


@contextmanager
def server(app: App, *, concurrency: int = 4) -> Iterator[TestServer]:
    """Run a server on a temporary database, and a worker of `app`'s tasks, as long as the context lasts.

    `app` speaks to it meanwhile. With a `concurrency` of 0 there is no worker: what is submitted stays pending.

    Raises:
        CannotLoad: a task for a process stands where no process can import it from.
    """
    if concurrency:
        require_sources(app.handlers)
    with (
        _logged(),
        # A thread of a worker may still look into a file of the database when the folder goes.
        tempfile.TemporaryDirectory(prefix="dtm-", ignore_cleanup_errors=True) as folder,
        start_blocking_portal("asyncio") as portal,
    ):
        parts = portal.wrap_async_context_manager(_running(app, Path(folder), concurrency))
        running = parts.__enter__()
        try:
            with app.pointed_at(_Unguarded(address=running.address)):
                yield running
        finally:
            # Not with what the test has raised: a task group would wrap it.
            parts.__exit__(None, None, None)


@asynccontextmanager
async def _running(app: App, folder: Path, concurrency: int) -> AsyncIterator[TestServer]:
    settings = Settings(
        db=folder / "tasks.db",
        dead_letter_log=folder / "dead-letter-queue.log",
        port=0,
        heartbeat_check_s=HEARTBEAT_CHECK_S,
        dispatch_check_s=DISPATCH_CHECK_S,
        retry_backoff_s=RETRY_BACKOFF_S,
        shutdown_timeout_s=0.0,
    )
    stop = StopRequest(Event(), Event())
    bound = _Bound(this_machine())
    async with create_task_group() as group:
        group.start_soon(serve, settings, stop, bound.machine)
        await bound.listens.wait()
        async with create_task_group() as workers:
            leave = Event()
            if concurrency:
                workers.start_soon(partial(_work, app, bound.port, concurrency, leave))
            yield TestServer(f"{HOST}:{bound.port}", settings.db)
            leave.set()
        stop.drain.set()
        stop.now.set()


class _Bound:
    """A machine, and the port that a server on it was given."""

    def __init__(self, machine: Machine) -> None:
        self._listen = machine.listen
        self.machine = structs.replace(machine, listen=self._note)
        self.listens = Event()
        self.port = 0

    async def _note(self, host: str, port: int) -> Sequence[Listener]:
        listeners = await self._listen(host, port)
        self.port = port_of(listeners)
        self.listens.set()
        return listeners


async def _work(app: App, port: int, concurrency: int, leave: Event) -> None:
    settings = WorkerSettings(host=HOST, port=port, name="dtm-testing", concurrency=concurrency, shutdown_timeout_s=0.0)
    slots = partial(threads, origin=variables(Address(HOST, port), CredentialFiles()))
    connect = dial(Credentials(None, None))
    worker = Worker(settings, app.handlers, FixedPrefetch(0), connect=connect, slots=slots, chance=random.Random())
    await worker.run(leave, Event())


@contextmanager
def _logged() -> Iterator[None]:
    """Give what the server and the worker log to `logging`, unless the program has said what becomes of it.

    There pytest finds it and shows it with a test that has failed; structlog by itself would print it.
    """
    if structlog.is_configured():
        yield
        return
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    try:
        yield
    finally:
        structlog.reset_defaults()
