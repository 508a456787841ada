"""A bell: rung from outside, again and again."""

from __future__ import annotations

from anyio import Event


class Bell:
    """Whoever waits hears the first ring since the last one heard; several in between are one."""

    def __init__(self) -> None:
        self._rung = Event()

    def ring(self) -> None:
        """Let whoever waits go on."""
        self._rung.set()

    async def heard(self) -> None:
        """Wait for a ring."""
        await self._rung.wait()
        self._rung = Event()
