"""The simulated network: what arrives, what is held up, and what is lost."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
from anyio import BrokenResourceError, EndOfStream, move_on_after, sleep

from tests.simulation.connection import Stream
from tests.simulation.loop import SimulatedLoop, run
from tests.simulation.network import Network
from tests.simulation.process import Process

WORDS = [b"%d " % number for number in range(200)]


def on_a_connection(act: Callable[[Network, Stream, Stream], Awaitable[bytes]], seed: int = 1) -> bytes:
    """Let `act` have a network and both ends of a connection."""

    async def main(loop: SimulatedLoop) -> bytes:
        network = Network(loop, random.Random(seed), latency_s=0.01)
        client, server = Process(loop, "client"), Process(loop, "server")
        listener = network.listen(server, 1)
        one = await network.connect(client, 1)
        return await act(network, one, await listener.accept())

    return run(main)


async def heard(stream: Stream) -> bytes:
    """Read to the end, whatever it is, or until nothing comes for a while."""
    data = b""
    with move_on_after(100):
        try:
            while True:
                data += await stream.receive()
        except (EndOfStream, BrokenResourceError):
            return data + b"!"
    return data


def test_what_is_sent_arrives_whole_and_in_order() -> None:
    """In pieces of any size; then comes the end."""

    async def act(_: Network, one: Stream, other: Stream) -> bytes:
        for word in WORDS:
            await one.send(word)
        await one.aclose()
        return await heard(other)

    assert on_a_connection(act) == b"".join(WORDS) + b"!"


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_loses_the_end_of_what_was_under_way(seed: int) -> None:
    """From any byte on; both ends hear of it."""

    async def act(network: Network, one: Stream, other: Stream) -> bytes:
        for word in WORDS:
            await one.send(word)
        one.connection.cut()
        assert await heard(one) == b"!"
        with pytest.raises(BrokenResourceError):
            await one.send(b"more")
        return await heard(other)

    data = on_a_connection(act, seed)
    assert data.endswith(b"!")
    assert b"".join(WORDS).startswith(data[:-1])
    assert len(data) <= len(b"".join(WORDS))


def test_a_half_open_connection_is_silent_until_it_is_released() -> None:
    """Nobody is told anything, not even that the other end has closed or died."""

    async def act(_: Network, one: Stream, other: Stream) -> bytes:
        one.connection.hold(both=True)
        await one.send(b"late")
        one.process.kill()
        assert await heard(other) == b""
        one.connection.release()
        return await heard(other)

    data = on_a_connection(act)
    assert data.endswith(b"!")
    assert b"late".startswith(data[:-1])


def test_nobody_listens_after_a_death() -> None:
    """Connecting is refused until somebody listens again."""

    async def act(network: Network, one: Stream, other: Stream) -> bytes:
        other.process.kill()
        await sleep(1)
        with pytest.raises(ConnectionRefusedError):
            await network.connect(one.process, 1)
        return await heard(one)

    assert on_a_connection(act) == b"!"


def test_who_is_cut_off_reaches_nobody_for_a_while() -> None:
    """Then everything goes on where it stood."""

    async def act(network: Network, one: Stream, other: Stream) -> bytes:
        network.cut_off(one.process, 5.0)
        await one.send(b"patience")
        with move_on_after(4):
            await network.connect(one.process, 1)
            raise AssertionError("connected")
        with move_on_after(3):
            return await other.receive()
        return b""

    assert on_a_connection(act) == b"patience"
