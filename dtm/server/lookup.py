"""Reads of the store for connections: in a thread, one at a time, beside the writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from anyio import CapacityLimiter

from dtm.server.machine import InThread
from dtm.storage.reader import Reader
from dtm.storage.statistics import Statistics, statistics
from dtm.storage.view import AuditLine, TaskRow

T = TypeVar("T")


class Lookup:
    """Asks the store's reader without holding up the event loop."""

    def __init__(self, reader: Reader, in_thread: InThread) -> None:
        self._reader = reader
        self._in_thread = in_thread
        self._one_at_a_time = CapacityLimiter(1)

    async def tasks(self, ids: Sequence[int]) -> list[TaskRow | None]:
        """Give the tasks of `ids` in that order; None where there is none."""
        return await self._run(lambda: self._reader.tasks_by_id(ids))

    async def statistics(self, now: int) -> Statistics:
        """Read the store's figures."""
        return await self._run(lambda: statistics(self._reader, now))

    async def audit_lines(self, *, after: int, limit: int) -> list[AuditLine]:
        """List audit lines from the one after number `after` on."""
        return await self._run(lambda: self._reader.audit_lines(after=after, limit=limit))

    async def ask(self, question: Callable[[Reader], T]) -> T:
        """Let `question` read what it wants."""
        return await self._run(lambda: question(self._reader))

    async def _run(self, read: Callable[[], T]) -> T:
        return await self._in_thread(read, limiter=self._one_at_a_time)
