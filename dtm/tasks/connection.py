"""An app's connection to its server: a producer that lives in a task of its own.

So an app may be opened by one coroutine, used by others, and closed by another still.
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


class Connection:
    """A producer, and the loop that it lives in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Producer] = self._loop.create_future()
        self._closing = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, server: Server) -> Connection:
        """Connect, and stay connected until `close`.

        Raises:
            Unreachable: no server answers.
            NotAdmitted: it refuses this program, or this program the server.
            Misconfigured: an address or a file with credentials is no such thing.
        """
        connection = cls()
        connection._life = asyncio.create_task(connection._live(server), name="dtm connection")
        try:
            await asyncio.shield(connection._ready)
        except BaseException:
            await connection.close()
            raise
        return connection

    @property
    def producer(self) -> Producer:
        """The producer.

        Raises:
            NotOpen: it lives in another event loop.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise NotOpen(
                "the app was opened in another event loop; open it in the loop that uses it, or use task.sync"
            )
        return self._ready.result()

    async def close(self) -> None:
        """Close the connection; whoever still waits for an answer is told."""
        self._closing.set()
        if self._life is not None:
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
