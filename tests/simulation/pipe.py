"""One direction of a simulated connection: bytes arrive late and in order, or not at all.

What was sent and had not arrived when a connection breaks is lost from a random byte on.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from contextvars import Context

from anyio import Event

from tests.simulation.loop import SimulatedLoop

WINDOW = 256 * 1024
"""Bytes on their way and unread, from which on a sender has to wait."""

_NOBODYS = Context()


class Weather:
    """How the network treats what is under way, as a seed says."""

    def __init__(self, loop: SimulatedLoop, chance: random.Random, *, latency_s: float) -> None:
        self.latency_s = latency_s
        self._loop = loop
        self._chance = chance

    def now_s(self) -> float:
        """Give the time."""
        return self._loop.time()

    def delay_s(self, mean_s: float) -> float:
        """Draw a delay: mostly short, now and then ten times as long."""
        return mean_s * self._chance.random() * (10 if self._chance.random() < 0.05 else 1)

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something after a while, in nobody's name."""
        self._loop.call_at(self._loop.time() + seconds, act, context=_NOBODYS)

    def pieces(self, data: bytes) -> list[bytes]:
        """Take what was sent at once apart, as it may arrive."""
        if len(data) < 2 or self._chance.random() > 0.1:
            return [data]
        at = self._chance.randrange(1, len(data))
        return [data[:at], data[at:]]

    def surviving(self, in_flight: int) -> int:
        """Draw how many bytes on their way still arrive when a connection breaks."""
        return self._chance.randrange(in_flight + 1)


class Pipe:
    """One direction of a connection."""

    def __init__(self, weather: Weather) -> None:
        self.is_held = False
        self.is_broken = False
        self.has_ended = False
        self.arrived = bytearray()
        self._weather = weather
        self._under_way: deque[bytes | None] = deque()
        self._left: bytes | None = None
        self._in_flight = 0
        self._news: Event | None = None
        self._last_at_s = 0.0

    def send(self, data: bytes) -> None:
        """Put bytes on their way."""
        for piece in self._weather.pieces(data):
            self._in_flight += len(piece)
            self._put(piece)

    def end(self) -> None:
        """Say that nothing follows."""
        self._put(None)

    def break_off(self) -> None:
        """Lose what is under way from a random byte on; the reader hears of the end after that."""
        if self.is_broken:
            return
        whole = b"".join(piece for piece in self._under_way if piece is not None)
        self._under_way.clear()
        self._left = whole[: self._weather.surviving(len(whole))]
        self.is_broken = True
        self._weather.later(self._weather.delay_s(self._weather.latency_s), self._finish)

    def release(self) -> None:
        """Let what was held arrive."""
        if self.is_held:
            self.is_held = False
            while self._under_way:
                self._arrive(self._under_way.popleft())
            if self._left is not None:
                self._finish()

    async def wait(self) -> None:
        """Wait until something has arrived or was read, or the end."""
        if self._news is None:
            self._news = Event()
        await self._news.wait()

    async def room(self) -> None:
        """Wait until the sender may send more."""
        while self._in_flight + len(self.arrived) > WINDOW and not self.is_broken:
            await self.wait()

    def take(self, most: int) -> bytes:
        """Read what has arrived."""
        data = bytes(self.arrived[:most])
        del self.arrived[:most]
        self.tell()
        return data

    def _put(self, piece: bytes | None) -> None:
        self._under_way.append(piece)
        now_s = self._weather.now_s()
        # Not before what was sent earlier.
        self._last_at_s = max(self._last_at_s, now_s + self._weather.delay_s(self._weather.latency_s))
        self._weather.later(self._last_at_s - now_s, self._deliver_one)

    def _deliver_one(self) -> None:
        if not self.is_held and self._under_way:
            self._arrive(self._under_way.popleft())

    def _arrive(self, piece: bytes | None) -> None:
        if piece is None:
            self.has_ended = True
        else:
            self._in_flight -= len(piece)
            self.arrived += piece
        self.tell()

    def _finish(self) -> None:
        if self.is_held or self._left is None:
            return
        self.arrived += self._left
        self._left = None
        self.has_ended = True
        self.tell()

    def tell(self) -> None:
        """Wake whoever waits, at either end."""
        if self._news is not None:
            self._news.set()
            self._news = None
