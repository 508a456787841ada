"""A task that takes as long as a test wants."""

from __future__ import annotations

import threading

from dtm.client.handlers import Handler
from tests.waiting import LONG_S


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
