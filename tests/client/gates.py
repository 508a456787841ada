"""A task that takes as long as a test wants, and what waits for tasks to have run."""

from __future__ import annotations

import threading

from dtm.client.handlers import Handler
from dtm.client.slots import Slots
from dtm.client.work import Work
from tests.waiting import LONG_S, in_the_end


class Gate:
    """A handler that waits until it is let through, and knows how many wait."""

    def __init__(self) -> None:
        self.waiting = 0
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.handler = Handler("Gate", self._pass)

    def open(self) -> None:
        """Let everybody through."""
        self._open.set()

    def _pass(self, payload: object) -> object:
        with self._lock:
            self.waiting += 1
        assert self._open.wait(LONG_S)
        return payload


def harvested(slots: Slots, count: int) -> list[Work]:
    """Wait until so many have run, and give them."""
    found: list[Work] = []

    def look() -> list[Work] | None:
        found.extend(slots.harvest())
        return found if len(found) >= count else None

    return in_the_end(look)
