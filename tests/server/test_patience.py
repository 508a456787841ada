"""Deadlines for what a peer says: total ones."""

from __future__ import annotations

import anyio
from anyio import create_memory_object_stream, create_task_group
from anyio.abc import ByteReceiveStream
from anyio.streams.memory import MemoryObjectReceiveStream

from dtm.server.limits import Limits
from dtm.server.patience import Patience, TooLate
from tests.waiting import LONG_S


class Line(ByteReceiveStream):
    """What a peer says, whenever it says it."""

    def __init__(self, said: MemoryObjectReceiveStream[bytes]) -> None:
        self._said = said

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """Wait for it."""
        return await self._said.receive()

    async def aclose(self) -> None:
        """Do nothing."""


def take_nothing(data: bytes) -> bytes:
    """Leave everything to whoever waits."""
    return data


async def hear(patience: Patience, every_s: float, *, is_stranger: bool, ends: int = 0) -> str:
    """Listen to one who says a byte now and then, for ever; each is the end of so many lines. Say why it ended."""
    saying, said = create_memory_object_stream[bytes](1)

    async def speak() -> None:
        while True:
            await anyio.sleep(every_s)
            await saying.send(b"x")

    with saying, said:
        async with create_task_group() as group:
            group.start_soon(speak)
            reason = await listen_in_vain(patience, Line(said), is_stranger=is_stranger, ends=ends)
            group.cancel_scope.cancel()
    return reason


async def listen_in_vain(patience: Patience, line: Line, *, is_stranger: bool, ends: int) -> str:
    """Listen until that is enough, and say why."""
    with anyio.fail_after(LONG_S):
        while True:
            try:
                await patience.wait_for(line, take_nothing, is_stranger=is_stranger)
            except TooLate as late:
                return str(late)
            patience.has_read(ends, has_rest=True)


async def test_a_line_has_to_end_in_time_however_steadily_it_comes() -> None:
    """A byte now and then does not put the deadline off."""
    patience = Patience(Limits(line_deadline_s=0.2))

    assert await hear(patience, 0.01, is_stranger=False) == "wanted the end of a line within 0.2 s of its first byte"


async def test_a_stranger_has_to_speak_in_time_however_many_lines_he_ends() -> None:
    """Empty ones, for example."""
    patience = Patience(Limits(first_message_deadline_s=0.2))

    reason = await hear(patience, 0.01, is_stranger=True, ends=1)
    assert reason == "wanted a first message within 0.2 s of connecting"


async def test_each_line_has_its_own_time() -> None:
    """Who ends one and begins the next is not late; neither is who says nothing."""
    patience = Patience(Limits(line_deadline_s=1.0, first_message_deadline_s=0.01))
    saying, said = create_memory_object_stream[bytes](10)
    with saying, said:
        for _ in range(4):
            await anyio.sleep(0.4)
            await saying.send(b"x\ny")
            await patience.wait_for(Line(said), take_nothing, is_stranger=False)
            patience.has_read(1, has_rest=True)
        await saying.send(b"\n")
        await patience.wait_for(Line(said), take_nothing, is_stranger=False)
        patience.has_read(1, has_rest=False)
        with anyio.move_on_after(1.2) as silence:
            await patience.wait_for(Line(said), take_nothing, is_stranger=False)

    assert silence.cancelled_caught
