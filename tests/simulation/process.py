"""A process of the simulated world: it can be stopped, let go on, and killed so that nothing of it gets out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Protocol

from anyio import CancelScope

from tests.simulation.loop import OWNER, SimulatedLoop


class Endpoint(Protocol):
    """A process's end of a connection, or its place to listen at."""

    def die(self) -> None:
        """End as the system ends it when the process is gone."""


class Process:
    """Whatever runs inside `run` belongs to it."""

    def __init__(self, loop: SimulatedLoop, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.has_ended = False
        self.is_secretive = False
        self.was_killed = False
        self.last_frozen_s = -inf
        self.is_frozen = False
        self.held: list[asyncio.Handle] = []
        self.endpoints: dict[Endpoint, None] = {}
        self.on_death: list[Callable[[], None]] = []
        self._loop = loop
        self._scope = CancelScope()

    async def run(self, main: Callable[..., Awaitable[Any]], *arguments: object) -> None:
        """Run `main` until it ends by itself or is killed."""
        OWNER.set(self)
        with self._scope:
            await main(*arguments)
            self.has_ended = True

    def kill(self) -> None:
        """End it as SIGKILL does: from now on nothing of it has any effect outside."""
        if self.is_dead:
            return
        self.is_dead = True
        self.was_killed = not self.has_ended
        for act in self.on_death:
            act()
        for endpoint in list(self.endpoints):
            endpoint.die()
        self.thaw()
        self._scope.cancel()

    def freeze(self) -> None:
        """Stop it, as SIGSTOP does."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        if self.is_frozen:
            self.last_frozen_s = self._loop.time()
            self._loop.thaw(self)
