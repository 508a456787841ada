"""An app's connections to its server: a producer in each event loop, that lives in a task of its own.

So an app may be opened by many coroutines, used by others, and closed by others still.
"""

from __future__ import annotations

import asyncio
import logging
import random

from dtm.client.dial import dial
from dtm.client.producer import Producer
from dtm.core.errors import DtmError
from dtm.tasks.errors import NotOpen
from dtm.tasks.server import Server

# Not structlog: a program that has configured nothing would find dtm's lines on its standard output.
_log = logging.getLogger(__name__)


class Connections:
    """One connection in each event loop: of the first who opens it there, until the last has closed it."""

    def __init__(self) -> None:
        self._by_loop: dict[asyncio.AbstractEventLoop, Connection] = {}

    async def open(self, server: Server) -> None:
        """Connect, or share the connection that there is.

        Raises:
            Unreachable, NotAdmitted, Misconfigured: as for `Connection.open`.
        """
        self._forget_ended_loops()
        loop = asyncio.get_running_loop()
        connection = self._by_loop.get(loop)
        if connection is None:
            connection = self._by_loop[loop] = Connection(server)
        connection.holders += 1
        try:
            await connection.opened()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Share it no longer; the last closes it, and whoever still waits for an answer is told."""
        loop = asyncio.get_running_loop()
        connection = self._by_loop.get(loop)
        if connection is None:
            return
        connection.holders -= 1
        if not connection.holders:
            del self._by_loop[loop]
            await connection.close()

    @property
    def producer(self) -> Producer:
        """The producer of the loop that runs here.

        Raises:
            NotOpen: there is none.
        """
        connection = self._by_loop.get(asyncio.get_running_loop())
        if connection is not None and connection.is_open:
            return connection.producer
        if connection is None and self._by_loop:
            raise NotOpen(
                "the app was opened in another event loop; open it in the loop that uses it, or use task.sync"
            )
        raise NotOpen("the app is not open; submit inside `async with app:`, or without async by task.sync")

    def _forget_ended_loops(self) -> None:
        # Other threads may open theirs meanwhile.
        for loop in list(self._by_loop):
            if loop.is_closed():
                self._by_loop.pop(loop, None)


class Connection:
    """A producer, and the task that it lives in; `holders` have opened it and not closed it."""

    def __init__(self, server: Server) -> None:
        self._ready: asyncio.Future[Producer] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self.holders = 0
        self._life = asyncio.create_task(self._live(server), name="dtm connection")

    @classmethod
    async def open(cls, server: Server) -> Connection:
        """Connect, and stay connected until `close`.

        Raises:
            Unreachable: no server answers.
            NotAdmitted: it refuses this program, or this program the server.
            Misconfigured: an address or a file with credentials is no such thing.
        """
        connection = cls(server)
        try:
            await connection.opened()
        except BaseException:
            await connection.close()
            raise
        return connection

    async def opened(self) -> None:
        """Wait until it is connected.

        Raises:
            Unreachable, NotAdmitted, Misconfigured: as for `open`.
        """
        await asyncio.shield(self._ready)

    @property
    def is_open(self) -> bool:
        """Whether it has been connected."""
        return self._ready.done()

    @property
    def is_here(self) -> bool:
        """Whether it was opened in the loop that runs here."""
        return self._life.get_loop() is asyncio.get_running_loop()

    @property
    def producer(self) -> Producer:
        """The producer, for what runs in the loop in which the connection was opened."""
        return self._ready.result()

    async def close(self) -> None:
        """Close the connection; whoever still waits for an answer is told."""
        self._closing.set()
        await asyncio.wait([self._life])

    async def _live(self, server: Server) -> None:
        try:
            address, files = server.find()
            async with Producer.open(
                address.host, address.port, connect=dial(files.read()), chance=random.Random(), on_trouble=_complain
            ) as producer:
                self._ready.set_result(producer)
                await self._closing.wait()
        except (DtmError, BaseExceptionGroup) as error:
            reason = _only(error)
            if not isinstance(reason, DtmError):
                raise
            if self._ready.done():
                _log.error("the connection to the server is over: %s", reason)
            else:
                self._ready.set_exception(reason)


def _complain(reason: str) -> None:
    _log.warning("%s; trying again", reason)


def _only(error: BaseException) -> BaseException:
    """Take the one error out of its group; a task group wraps even a single one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
