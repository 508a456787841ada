"""What is to be said on one connection: in order, and nothing lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import EndOfStream, create_task_group, fail_after, wait_all_tasks_blocked
from anyio.abc import ByteStream, SocketAttribute
from msgspec import Raw

from dtm.client.link import Link, LinkLost
from dtm.client.outgoing import MOST_AT_ONCE, Outgoing, ping_forever
from dtm.net.stream import connect_tcp
from dtm.protocol.codec import encode_all
from dtm.protocol.messages import PingRequest, Submit, SubmittedTask
from tests.client.scripted import listening
from tests.net.connected import pair
from tests.waiting import LONG_S
from tests.wire import Wire


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[Link, Wire]]:
    """Connect to a server that a test speaks for."""
    async with listening() as server:
        link = await Link.open(server.host, server.port, connect_tcp)
        try:
            async with server.accept() as wire:
                yield link, wire
        finally:
            await link.close()


@asynccontextmanager
async def sending(outgoing: Outgoing, link: Link) -> AsyncIterator[None]:
    """Let a queue be sent as long as the context lasts."""
    async with create_task_group() as group:
        group.start_soon(outgoing.send_over, link)
        yield
        group.cancel_scope.cancel()


async def timestamps(wire: Wire, count: int) -> list[object]:
    """Hear so many pings, and give what tells them apart."""
    return [(await wire.expect("PingRequest"))["timestamp"] for _ in range(count)]


class Frozen(ByteStream):
    """A connection whose peer takes everything in time, in a process that stands still until the time is over."""

    def __init__(self, standstill_s: float) -> None:
        self.sent: list[bytes] = []
        self._standstill_s = standstill_s

    async def send(self, item: bytes) -> None:
        """Note it, and stand still."""
        loop, taken = asyncio.get_running_loop(), anyio.Event()
        loop.call_later(self._standstill_s / 4, taken.set)
        loop.call_soon(time.sleep, self._standstill_s)
        await taken.wait()
        self.sent.append(item)

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """Hear nothing."""
        raise EndOfStream

    async def send_eof(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""


async def test_a_standstill_of_this_process_is_not_held_against_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent was taken; the rest follows on the same connection."""
    monkeypatch.setattr("dtm.client.outgoing.SEND_TIMEOUT_S", 0.05)
    outgoing, stream = Outgoing(), Frozen(0.1)
    outgoing.put(map(PingRequest, range(MOST_AT_ONCE + 1)))
    with fail_after(LONG_S):
        async with sending(outgoing, Link(stream)):
            await outgoing.flushed()

    assert b"".join(stream.sent) == encode_all(list(map(PingRequest, range(MOST_AT_ONCE + 1))))
    assert len(stream.sent) == 2


async def test_messages_are_sent_in_the_order_they_were_queued() -> None:
    """Before and after the sending began, more than fit into one write."""
    outgoing = Outgoing()
    count = 2 * MOST_AT_ONCE + 10
    outgoing.put(map(PingRequest, range(MOST_AT_ONCE + 5)))
    async with linked() as (link, wire), sending(outgoing, link):
        outgoing.put(map(PingRequest, range(MOST_AT_ONCE + 5, count)))

        assert await timestamps(wire, count) == list(range(count))


async def test_what_the_system_takes_is_gone_in_the_same_turn() -> None:
    """Nobody has to wake up for it; `flushed` has nothing to wait for."""
    outgoing = Outgoing()
    async with pair() as (here, there), sending(outgoing, Link(here)):
        await wait_all_tasks_blocked()
        outgoing.put([PingRequest(1)])
        outgoing.put([PingRequest(2)])
        outgoing.flush()

        assert there.extra(SocketAttribute.raw_socket).recv(1_000) == encode_all([PingRequest(1), PingRequest(2)])
        await outgoing.flushed()


async def test_what_the_system_does_not_take_follows_in_its_order() -> None:
    """More than fits into one part, and more than the system keeps of each."""
    outgoing = Outgoing()
    pings = [PingRequest(f"{number}{'x' * 10_000}") for number in range(2 * MOST_AT_ONCE + 1)]
    whole = encode_all(pings)
    async with pair() as (here, there), sending(outgoing, Link(here)):
        await wait_all_tasks_blocked()
        outgoing.put(pings[:-1])
        outgoing.flush()
        outgoing.put(pings[-1:])
        heard = bytearray()
        with fail_after(LONG_S):
            while len(heard) < len(whole):
                heard += await there.receive()
            await outgoing.flushed()

    assert bytes(heard) == whole


async def test_what_is_queued_during_a_send_is_sent_too() -> None:
    """A long write waits for its reader; meanwhile whatever comes queues up behind it."""
    outgoing = Outgoing()
    async with linked() as (link, wire), sending(outgoing, link):
        big = SubmittedTask("A", Raw(b'"' + b"x" * 900_000 + b'"'))
        outgoing.put([Submit(ref, [big]) for ref in range(30)])
        for number in range(5):
            await wait_all_tasks_blocked()
            outgoing.put([PingRequest(number)])
        for ref in range(30):
            await wire.expect("Submit", ref=ref)

        assert await timestamps(wire, 5) == [0, 1, 2, 3, 4]


async def test_flushed_waits_until_everything_is_sent() -> None:
    """Also what is queued while it waits; at once if nothing is."""
    outgoing = Outgoing()
    with fail_after(10):
        await outgoing.flushed()
        async with linked() as (link, wire), create_task_group() as group:
            outgoing.put(map(PingRequest, range(3_000)))
            group.start_soon(outgoing.flushed)
            await wait_all_tasks_blocked()
            outgoing.put([PingRequest("last")])
            async with sending(outgoing, link):
                await outgoing.flushed()
                heard = await timestamps(wire, 3_001)

    assert heard[-1] == "last"


async def test_a_broken_connection_ends_the_sending() -> None:
    """With the reason."""
    outgoing = Outgoing()

    async def send_to_nobody() -> None:
        async with linked() as (link, wire):
            await wire.hang_up()
            async with sending(outgoing, link):
                while True:
                    outgoing.put([PingRequest("x" * 100_000)])
                    await anyio.sleep(0.001)

    with fail_after(10), pytest.raises(ExceptionGroup) as failed:
        await send_to_nobody()
    assert failed.group_contains(LinkLost)


async def test_pings_show_that_this_side_lives() -> None:
    """In the rhythm that was asked for."""
    outgoing = Outgoing()
    async with linked() as (link, wire), sending(outgoing, link), create_task_group() as group:

        async def ping() -> None:
            await ping_forever(link, outgoing, interval_s=0.02, timeout_s=10)

        group.start_soon(ping)
        with fail_after(5):
            heard = await timestamps(wire, 5)
        group.cancel_scope.cancel()

    assert all(isinstance(timestamp, float) for timestamp in heard)


async def test_a_server_that_says_nothing_is_lost() -> None:
    """Its answers to the pings are the sign that it lives."""
    outgoing = Outgoing()
    async with linked() as (link, _):
        with fail_after(5), pytest.raises(LinkLost, match=r"the server was silent for 0\.1 s"):
            await ping_forever(link, outgoing, interval_s=0.02, timeout_s=0.1)


async def test_a_server_that_answers_is_not_lost() -> None:
    """Whatever it says counts."""
    outgoing = Outgoing()
    async with linked() as (link, wire), sending(outgoing, link), create_task_group() as group:

        async def ping() -> None:
            await ping_forever(link, outgoing, interval_s=0.02, timeout_s=0.3)

        group.start_soon(ping)
        group.start_soon(link.listen, lambda _: None)
        for _ in range(40):
            await wire.expect("PingRequest")
            await wire.say({"type": "PingResponse", "timestamp": None})
        group.cancel_scope.cancel()
