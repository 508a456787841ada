"""The outbox: order, bounds, and peers that do not read."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import Event, Semaphore, create_task_group, fail_after, move_on_after, wait_all_tasks_blocked
from anyio.abc import ByteSendStream, SocketAttribute

from dtm.protocol.codec import encode_all
from dtm.protocol.messages import Message, PingResponse
from dtm.server.limits import Limits
from dtm.server.outbox import HIGH_WATER, MAX_PIECE, Outbox, TooSlow
from tests.net.connected import pair
from tests.waiting import LONG_S

MEBIBYTE = 1024 * 1024
PIECE = 64 * 1024
MAX_QUEUED = Limits().max_queued


class Wire(ByteSendStream):
    """A peer that takes `PIECE` bytes whenever it is told to, and notes what it has taken."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self._takes = Semaphore(0)

    def take(self, times: int = 1) -> None:
        """Take so many times `PIECE` bytes more."""
        for _ in range(times):
            self._takes.release()

    @property
    def timestamps(self) -> list[object]:
        """Say which messages have arrived whole."""
        return [json.loads(line)["timestamp"] for line in b"".join(self.pieces).splitlines()]

    async def send(self, item: bytes) -> None:
        """Wait until all of it is taken."""
        for _ in range(0, len(item), PIECE):
            await self._takes.acquire()
        self.pieces.append(item)

    async def aclose(self) -> None:
        """Do nothing."""


@asynccontextmanager
async def writing(outbox: Outbox, wire: ByteSendStream) -> AsyncIterator[None]:
    """Let the outbox write as long as the context lasts."""
    async with create_task_group() as group:
        group.start_soon(outbox.write_to, wire)
        yield
        group.cancel_scope.cancel()


def boxed(
    on_room: Callable[[], None] = lambda: None, *, send_deadline_s: float = LONG_S, max_messages: int = 1_000
) -> tuple[Outbox, Wire]:
    """Make an outbox and the peer that it writes to."""
    return Outbox(on_room, Limits(send_deadline_s=send_deadline_s, max_queued_messages=max_messages)), Wire()


def pongs(*timestamps: int | str) -> list[Message]:
    """Make messages that can be told apart."""
    return [PingResponse(timestamp) for timestamp in timestamps]


def of_size(size: int) -> list[Message]:
    """Make a message of about so many bytes."""
    return pongs("x" * size)


async def test_messages_arrive_in_order_and_many_at_a_time() -> None:
    """What is queued while a piece is written makes up the next one."""
    outbox, wire = boxed()
    async with writing(outbox, wire):
        outbox.put(pongs(1))
        await wait_all_tasks_blocked()
        outbox.put(pongs(2, 3))
        outbox.put(pongs(4))
        wire.take(2)
        await wait_all_tasks_blocked()

        assert wire.timestamps == [1, 2, 3, 4]
        assert len(wire.pieces) == 2


async def test_what_is_flushed_is_written_first() -> None:
    """Before what others queued earlier in the same turn of the loop."""
    written: list[object] = []

    class Noting(Wire):
        async def send(self, item: bytes) -> None:
            """Note when it came."""
            written.append(json.loads(item)["timestamp"])

    (one, _), (other, _) = boxed(), boxed()
    async with writing(one, Noting()), writing(other, Noting()):
        await wait_all_tasks_blocked()
        one.put(pongs("one"))
        other.put(pongs("other"))
        other.flush()
        await wait_all_tasks_blocked()

    assert written == ["other", "one"]


async def test_what_the_system_takes_is_gone_in_the_same_turn() -> None:
    """Nobody has to wake up for it."""
    outbox, _ = boxed()
    async with pair() as (here, there), writing(outbox, here):
        await wait_all_tasks_blocked()
        outbox.put(pongs(1))
        outbox.put(pongs(2))
        outbox.flush()

        assert there.extra(SocketAttribute.raw_socket).recv(1_000) == encode_all(pongs(1, 2))


async def test_what_the_system_does_not_take_follows_in_its_order() -> None:
    """Many pieces, of which the peer reads the first only when the last is queued; then there is room again."""
    rooms: list[None] = []
    outbox, _ = boxed(lambda: rooms.append(None))
    lines = [of_size(MEBIBYTE - 1_000), pongs(1), of_size(MEBIBYTE - 1_000)] * 4
    whole = b"".join(map(encode_all, lines))
    async with pair() as (here, there), writing(outbox, here):
        await wait_all_tasks_blocked()
        for number, messages in enumerate(lines):
            outbox.put(messages)
            if number % 2:
                outbox.flush()
        heard = bytearray()
        with fail_after(LONG_S):
            while len(heard) < len(whole):
                heard += await there.receive()
            await outbox.room()

    assert bytes(heard) == whole
    assert rooms


async def test_a_standstill_of_this_process_is_not_held_against_the_peer() -> None:
    """It took its piece in time; nobody was there to see it until the deadline was over."""
    deadline_s = 0.05
    written: list[bytes] = []

    class Frozen(Wire):
        async def send(self, item: bytes) -> None:
            """Let the piece be taken in time, and all that be noticed when the deadline is over."""
            loop, taken = asyncio.get_running_loop(), Event()
            loop.call_later(deadline_s / 2, taken.set)
            loop.call_soon(time.sleep, 2 * deadline_s)
            await taken.wait()
            written.append(item)

    outbox, _ = boxed(send_deadline_s=deadline_s)
    outbox.put(of_size(2 * MAX_PIECE))
    outbox.put(pongs(1))
    outbox.close()
    await outbox.write_to(Frozen())

    assert b"".join(written).endswith(encode_all(pongs(1)))
    assert len(written) == 3


async def test_closing_writes_what_is_queued_and_ends() -> None:
    """Also if it is closed before anything was written, and if nothing is queued."""
    outbox, wire = boxed()
    outbox.put(pongs(1, 2))
    outbox.close()
    wire.take(5)
    await outbox.write_to(wire)
    await outbox.write_to(wire)

    assert wire.timestamps == [1, 2]


async def test_a_writer_that_waits_is_ended_by_closing() -> None:
    """It does not wait for another message."""
    outbox, wire = boxed()
    async with create_task_group() as group:
        group.start_soon(outbox.write_to, wire)
        await wait_all_tasks_blocked()
        outbox.close()


async def test_above_the_mark_it_is_full_until_the_peer_has_read() -> None:
    """Once, when there is room again, whoever gives out tasks is told."""
    rooms: list[bool] = []
    outbox, wire = boxed(lambda: rooms.append(outbox.is_full))
    outbox.put(of_size(HIGH_WATER - 100))
    found = [outbox.is_full]
    outbox.put(of_size(100))
    assert [*found, outbox.is_full] == [False, True]
    async with writing(outbox, wire):
        with move_on_after(0.02) as patience:
            await outbox.room()
        assert patience.cancelled_caught
        wire.take(100)
        await outbox.room()
        await wait_all_tasks_blocked()

    assert rooms == [False]


async def test_a_little_traffic_wakes_nobody() -> None:
    """Only a peer that was behind makes a difference when it has read."""
    rooms: list[None] = []
    outbox, wire = boxed(lambda: rooms.append(None))
    wire.take(3)
    async with writing(outbox, wire):
        for number in range(3):
            outbox.put(pongs(number))
            await wait_all_tasks_blocked()
        await outbox.room()

    assert (wire.timestamps, rooms) == ([0, 1, 2], [])


async def test_more_than_the_bound_is_not_queued() -> None:
    """Memory is bounded for each peer; it is told how much waits."""
    outbox, _ = boxed()
    for _ in range(MAX_QUEUED // MEBIBYTE - 1):
        outbox.put(of_size(MEBIBYTE - 1_000))

    with pytest.raises(TooSlow, match="bytes wait to be read"):
        outbox.put(of_size(3 * MEBIBYTE))


async def test_more_messages_than_the_bound_are_not_queued() -> None:
    """However small they are; what was written counts no more."""
    outbox, wire = boxed(max_messages=3)
    outbox.put(pongs(1, 2))
    outbox.put(pongs(3))
    with pytest.raises(TooSlow, match="3 messages wait to be read; no more than 3 may"):
        outbox.put(pongs(4))
    wire.take(2)
    async with writing(outbox, wire):
        await wait_all_tasks_blocked()
        outbox.put(pongs(4, 5, 6))
        await wait_all_tasks_blocked()

    assert wire.timestamps == [1, 2, 3, 4, 5, 6]


async def test_what_was_read_makes_room_below_the_bound() -> None:
    """A peer that reads is never too slow, however much it is sent in all."""
    outbox, wire = boxed()
    wire.take(9_999)
    async with writing(outbox, wire):
        with fail_after(LONG_S):
            for _ in range(2 * MAX_QUEUED // MEBIBYTE):
                outbox.put(of_size(MEBIBYTE))
                await outbox.room()


async def test_a_peer_that_takes_nothing_is_given_up() -> None:
    """After the deadline."""
    outbox, wire = boxed(send_deadline_s=0.05)
    outbox.put(pongs(1))

    with pytest.raises(TooSlow, match=r"not taken within 0\.05 s"):
        await outbox.write_to(wire)


async def test_a_peer_that_reads_slowly_but_steadily_is_not_given_up() -> None:
    """The deadline is for a piece, not for all that waits: 8 MiB may take a while on a thin line."""
    outbox, wire = boxed(send_deadline_s=0.5)
    for _ in range(8):
        outbox.put(of_size(MEBIBYTE))
    async with writing(outbox, wire):
        with fail_after(LONG_S):
            while outbox.is_full:
                await anyio.sleep(0.01)
                wire.take()

    assert len(b"".join(wire.pieces)) > 6 * MEBIBYTE
