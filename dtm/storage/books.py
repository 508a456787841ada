"""The books: how many tasks of each kind stand where, and what happened in each minute.

Kept by the transactions that change the tasks, so that statistics never scan them.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete

from dtm.core.lifecycle import State
from dtm.storage.prepared import Prepared
from dtm.storage.schema import activity, counts
from dtm.storage.sql import Value, add_up

MINUTE = 60_000_000
KEPT_MINUTES = 7 * 24 * 60

_ADD_COUNTS = add_up(counts, "tasks")
_ADD_ACTIVITY = add_up(activity, "times")
_FORGET = delete(activity).where(activity.c.minute < bindparam("before"))


class Books:
    """What one transaction adds to the books."""

    def __init__(self) -> None:
        self._moves: dict[tuple[str, State], int] = {}
        self._events: dict[str, int] = {}
        self.made_pending: set[str] = set()

    def move(self, kind: str, source: State | None, target: State, times: int = 1) -> None:
        """Note that tasks went from `source` (None: they are new) to `target`."""
        moves = self._moves
        if source is not None:
            moves[kind, source] = moves.get((kind, source), 0) - times
        if target is not State.CLEARED:
            moves[kind, target] = moves.get((kind, target), 0) + times
        if target is State.PENDING:
            self.made_pending.add(kind)

    def happened(self, event: str, times: int = 1) -> None:
        """Note that something happened, for the throughput of this minute."""
        self._events[event] = self._events.get(event, 0) + times

    def write(self, prepared: Prepared, now: int) -> None:
        """Add everything noted to the tables, and drop the minutes that nobody asks for any more."""
        moves: list[dict[str, Value]] = [
            {"kind": kind, "state": state, "tasks": n} for (kind, state), n in self._moves.items() if n
        ]
        if moves:
            prepared.run_each(_ADD_COUNTS, moves)
        minute = now // MINUTE
        events: list[dict[str, Value]] = [
            {"minute": minute, "event": event, "times": n} for event, n in self._events.items() if n
        ]
        if events:
            prepared.run_each(_ADD_ACTIVITY, events)

    @staticmethod
    def forget(connection: Connection, now: int) -> None:
        """Drop the minutes that are too long ago for any report."""
        connection.execute(_FORGET, {"before": now // MINUTE - KEPT_MINUTES})
