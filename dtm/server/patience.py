"""How long a peer may take to say something: deadlines for its first message, and for each line it has begun.

Total ones: a byte now and then does not put them off.
"""

from __future__ import annotations

from math import inf

import anyio
from anyio import CancelScope
from anyio.abc import ByteReceiveStream

from dtm.net.stream import Take, receive_rest
from dtm.server.limits import Limits

READ_SIZE = 256 * 1024


class TooLate(Exception):
    """The peer took too long."""


class Patience:
    """What is left of it with one peer."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known_by_s = anyio.current_time() + limits.first_message_deadline_s
        self._line_by_s = inf

    def has_read(self, lines: int, *, has_rest: bool) -> None:
        """Note that so many lines were read, and whether another one has begun."""
        if not has_rest:
            self._line_by_s = inf
        elif lines or self._line_by_s == inf:
            self._line_by_s = anyio.current_time() + self._limits.line_deadline_s

    async def wait_for(self, stream: ByteReceiveStream, take: Take, *, is_stranger: bool) -> bytes:
        """Read what comes next, but for what `take` takes at once while there is no deadline.

        Raises:
            TooLate: it did not come in time.
        """
        deadline_s = min(self._known_by_s, self._line_by_s) if is_stranger else self._line_by_s
        if deadline_s == inf:
            return await receive_rest(stream, take, READ_SIZE)
        with CancelScope(deadline=deadline_s):
            return await stream.receive(READ_SIZE)
        limits = self._limits
        if is_stranger and deadline_s == self._known_by_s:
            raise TooLate(f"wanted a first message within {limits.first_message_deadline_s:g} s of connecting")
        raise TooLate(f"wanted the end of a line within {limits.line_deadline_s:g} s of its first byte")
