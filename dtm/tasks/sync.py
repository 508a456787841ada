"""Submitting without async: a thread of the app's own has the event loop and the connection.

It is started by the first call, serves any number of threads, and ends with `app.close()` or the program.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from array import array
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Generic, Protocol, TypeVar, overload

from dtm.client.producer import Producer
from dtm.core.durations import Duration
from dtm.tasks.connection import Connection
from dtm.tasks.errors import Blocking, NotOpen
from dtm.tasks.job import Job, Status, Update
from dtm.tasks.loop import Loop
from dtm.tasks.server import Server

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class Background(Protocol):
    """Where work that is to be awaited is run for those who cannot await."""

    @property
    def producer(self) -> Producer:
        """The producer, for what runs there."""

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work`, and wait for what it returns."""

    def close(self) -> None:
        """End it."""


class Thread:
    """The thread, its loop and its connection."""

    def __init__(self, server: Callable[[], Server]) -> None:
        self._server = server
        self.begin_anew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_begin_anew, weakref.ref(self)))

    def begin_anew(self) -> None:
        """Forget the thread and its connection, if any."""
        self._lock = threading.Lock()
        self._loop: Loop | None = None
        self._connection: Connection | None = None

    @property
    def producer(self) -> Producer:
        """The producer, for what runs in this loop.

        Raises:
            NotOpen: the app was closed meanwhile.
        """
        connection = self._connection
        if connection is None or not connection.is_here:
            raise NotOpen("the app was closed before this call began; a new call opens it again")
        return connection.producer

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run `work` in the loop of the thread, which is started if need be, and wait for what it returns.

        Raises:
            Blocking: the caller's own event loop would stand still meanwhile.
            NotOpen, Closed: the app was closed meanwhile, before the work had begun or after that.
            Unreachable, NotAdmitted, Misconfigured: as for `App.open`.
        """
        require_no_loop()
        with self._lock:
            # Nobody ends the loop in between, and what was begun is run to its end.
            future = (self._loop or self._start()).begin(work)
        return future.result()

    def close(self) -> None:
        """Close the connection and end the thread; the next call begins anew."""
        with self._lock:
            loop, connection = self._loop, self._connection
            self._loop = self._connection = None
        if loop is None or connection is None:
            return
        atexit.unregister(self.close)
        loop.begin(connection.close).result()
        loop.end()

    def _start(self) -> Loop:
        loop = Loop()
        try:
            self._connection = loop.begin(partial(Connection.open, self._server())).result()
        except BaseException:
            loop.end()
            raise
        self._loop = loop
        atexit.register(self.close)
        return loop


def _begin_anew(thread: weakref.ref[Thread]) -> None:
    """Let a forked process have a thread of its own: that of its parent is not in it, whatever its lock says."""
    left = thread()
    if left is not None:
        left.begin_anew()


class SyncJob(Generic[R_co]):
    """A task on the server, for programs without async; see `Job`, whose methods these are."""

    def __init__(self, job: Job[R_co], background: Background) -> None:
        self.id = job.id
        self._job = job
        self._background = background

    def __repr__(self) -> str:
        return f"<dtm job {self.id}>"

    def result(self, timeout: Duration | None = None) -> R_co:
        """Wait until the task has ended, and give what it returned; see `Job.result`."""
        return self._background.call(partial(self._job.result, timeout))

    def status(self) -> Status:
        """Ask how the task stands; see `Job.status`."""
        return self._background.call(self._job.status)

    def cancel(self) -> str:
        """Have the task cancelled; see `Job.cancel`."""
        return self._background.call(self._job.cancel)

    def updates(self) -> Iterator[Update]:
        """Give how the task stands, and then whenever it goes on; see `Job.updates`."""
        updates = self._job.updates()
        try:
            while True:
                update = self._background.call(partial(_next, updates.__anext__))
                if update is None:
                    return
                yield update
        finally:
            self._background.call(updates.aclose)


class SyncJobs(Generic[R_co]):
    """The jobs of many submissions, in their order, for programs without async."""

    def __init__(self, ids: array[int], job: Callable[[int], SyncJob[R_co]]) -> None:
        self.ids = ids
        self._job = job

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> SyncJob[R_co]: ...
    @overload
    def __getitem__(self, index: slice) -> SyncJobs[R_co]: ...
    def __getitem__(self, index: int | slice) -> SyncJob[R_co] | SyncJobs[R_co]:
        if isinstance(index, slice):
            return SyncJobs(self.ids[index], self._job)
        return self._job(self.ids[index])

    def __iter__(self) -> Iterator[SyncJob[R_co]]:
        return map(self._job, self.ids)


async def _next(step: Callable[[], Awaitable[T]]) -> T | None:
    try:
        return await step()
    except StopAsyncIteration:
        return None


def require_no_loop() -> None:
    """Refuse to hold up an event loop.

    Raises:
        Blocking: one runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise Blocking("task.sync would hold up the event loop that runs here; await task.submit(…) instead")
