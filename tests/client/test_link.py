"""The link: what breaks it, and in which words."""

from __future__ import annotations

import anyio
import pytest
from anyio import create_task_group, fail_after
from msgspec import Raw

from dtm.client.link import Link, LinkLost, Unreachable
from dtm.net.stream import connect_tcp
from dtm.protocol.codec import encode_all
from dtm.protocol.messages import PingRequest, PingResponse, ServerMessage, ShuttingDown, Submit, SubmittedTask
from tests.client.hearing import next_from
from tests.client.scripted import Scripted, free_port, listening
from tests.wire import Wire

LOCAL = "127.0.0.1"


async def connected(server: Scripted) -> Link:
    """Connect."""
    return await Link.open(server.host, server.port, connect_tcp)


async def test_messages_go_out_and_come_in() -> None:
    """Many at a time, in their order."""
    async with listening() as server:
        link = await connected(server)
        async with server.accept() as wire:
            await link.send(encode_all([PingRequest(1), PingRequest(2)]))
            await wire.expect("PingRequest", timestamp=1)
            await wire.expect("PingRequest", timestamp=2)
            await wire.say({"type": "PingResponse", "timestamp": 3}, {"type": "ShuttingDown"})

            heard: list[ServerMessage] = []
            while len(heard) < 2:
                heard += await next_from(link)
            assert heard == [PingResponse(3), ShuttingDown()]
        await link.close()


async def test_a_message_may_come_in_pieces() -> None:
    """A line is whole when its end has come; until then there is nothing, and the server lives."""
    async with listening() as server:
        link = await connected(server)
        async with server.accept() as wire:
            for byte in b'{"type":"PingResponse","timestamp":3}':
                await wire.say_bytes(bytes([byte]))
            assert await next_from(link) == []
            await wire.say_bytes(b"\n")
            heard: list[ServerMessage] = []
            while not heard:
                heard += await next_from(link)

            assert heard == [PingResponse(3)]
        await link.close()


async def test_nobody_there_is_said_so_and_how_to_start_one() -> None:
    """At once."""
    port = free_port()
    with fail_after(5), pytest.raises(Unreachable, match=f"cannot reach {LOCAL}:{port} .*refused.*dtm-server --db"):
        await Link.open(LOCAL, port, connect_tcp)


async def test_no_such_host_is_said_so() -> None:
    """A name may be mistyped."""
    with pytest.raises(Unreachable, match=r"cannot reach no\.such\.host\.invalid:1 \("):
        await Link.open("no.such.host.invalid", 1, connect_tcp)


async def test_a_closed_connection_is_lost_on_both_ways() -> None:
    """Whoever reads or sends learns it."""
    async with listening() as server:
        link = await connected(server)
        async with server.accept():
            pass
        with pytest.raises(LinkLost, match="the server closed the connection"):
            await next_from(link)
        big = Submit(1, [SubmittedTask("A", Raw(b'"' + b"x" * 1_000_000 + b'"'))])
        with pytest.raises(LinkLost, match="broke while sending"):
            await link.send(encode_all([big] * 20))
        await link.close()
        with pytest.raises(LinkLost):
            await next_from(link)


@pytest.mark.parametrize(
    "nonsense",
    [b"HTTP/1.1 400 Bad Request\r\n", b'{"type":"Hello"}\n', b'{"type":"Task"}\n', b"x" * 3_000_000, b"\n"],
    ids=["http", "unknown", "incomplete", "endless", "blank"],
)
async def test_what_no_server_says_loses_the_link(nonsense: bytes) -> None:
    """Something else listens there; nothing it says is taken."""
    async with listening() as server:
        link = await connected(server)
        async with server.accept() as wire, create_task_group() as group:
            group.start_soon(_say, wire, nonsense)
            with fail_after(10), pytest.raises(LinkLost, match="the server sent what is no message"):
                await _receive_nothing(link)
            await link.close()


async def test_what_a_server_may_send_is_longer_than_what_it_takes() -> None:
    """A payload that just fits into a submission comes back with more fields around it."""
    async with listening() as server:
        link = await connected(server)
        async with server.accept() as wire, create_task_group() as group:
            line = b'{"type":"PingResponse","timestamp":"' + b"x" * 1_900_000 + b'"}\n'
            group.start_soon(_say, wire, line)
            heard: list[ServerMessage] = []
            while not heard:
                heard += await next_from(link)
        await link.close()


async def _receive_nothing(link: Link) -> None:
    while True:
        assert await next_from(link) == []


async def _say(wire: Wire, data: bytes) -> None:
    try:
        await wire.say_bytes(data)
    except anyio.BrokenResourceError:
        pass
