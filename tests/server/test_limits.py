"""A server's limits on the wire: what is refused, in which words, and who is not concerned."""

from __future__ import annotations

import json
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path

import anyio
import pytest
from anyio import create_task_group

from dtm.server.limits import Limits
from tests.server.live import Live, Peer, registration, serving, submission
from tests.waiting import LONG_S

PING = {"type": "PingRequest"}


async def enter(live: Live, stack: AsyncExitStack, count: int) -> list[Peer]:
    """Let so many peers connect and speak."""
    peers = [await stack.enter_async_context(live.dial()) for _ in range(count)]
    for peer in peers:
        await peer.say(PING)
        await peer.expect("PingResponse")
    return peers


COMMAND = {
    "type": "Admin",
    "ref": 1,
    "command": "deadletter.clear",
    "args": {"selection": {"everything": True}, "limit": 1},
}


async def test_one_connection_too_many_is_refused_with_a_reason(tmp_path: Path) -> None:
    """Whatever it says first; the others go on, and who leaves makes room."""
    async with serving(tmp_path, limits=Limits(max_connections=3)) as live, AsyncExitStack() as stack:
        peers = await enter(live, stack, 3)
        for message in (PING, registration("A"), submission({"kind": "A"}, ref=7)):
            async with live.dial() as surplus:
                await surplus.say(message, PING)
                await surplus.expect("Error", code="too-many-connections", ref=message.get("ref"))
                assert await surplus.hear_all() == []

        await peers[0].submit({"kind": "A"})
        await peers[2].hang_up()
        await enter(live, stack, 1)


async def test_at_the_limit_an_operators_command_is_carried_out(tmp_path: Path) -> None:
    """He may be the one who mends it; without the secret nobody is an operator."""
    async with serving(tmp_path, limits=Limits(max_connections=1)) as live, AsyncExitStack() as stack:
        await enter(live, stack, 1)
        async with live.dial() as forger:
            await forger.say(COMMAND)
            (answer,) = await forger.hear_all()
        async with live.dial() as operator:
            await operator.become_operator(live)
            await operator.say(COMMAND)
            await operator.expect("AdminResponse", ref=1)

    assert answer["code"] == "unauthenticated"


async def test_strangers_beyond_their_limit_are_told_to_speak(tmp_path: Path) -> None:
    """The oldest goes; whoever has spoken is no stranger."""
    async with serving(tmp_path, limits=Limits(max_unauthenticated=2)) as live, AsyncExitStack() as stack:
        (known,) = await enter(live, stack, 1)
        silent = [await stack.enter_async_context(live.dial()) for _ in range(3)]
        await silent[0].expect("Error", code="too-many-connections")
        assert await silent[0].hear_all() == []

        for peer in (known, *silent[1:]):
            await peer.say(PING)
            await peer.expect("PingResponse")


@pytest.mark.parametrize("said", [b"", b"\n\n", b'{"type":', b'{"type":"Nonsense"}\n'])
async def test_who_never_says_a_message_is_cut(tmp_path: Path, said: bytes) -> None:
    """Words that are none do not count."""
    limits = Limits(first_message_deadline_s=0.3)
    async with serving(tmp_path, limits=limits) as live, live.dial() as mute, live.dial() as known:
        await known.say(PING)
        await known.expect("PingResponse")
        await mute.say_bytes(said)
        *_, last = await mute.hear_all()

        assert (last["type"], last["code"]) == ("Error", "too-slow")
        assert "a first message within 0.3 s" in last["message"]
        await known.say(PING)
        await known.expect("PingResponse")


async def test_a_line_that_does_not_end_is_cut(tmp_path: Path) -> None:
    """Although its sender is known."""
    async with serving(tmp_path, limits=Limits(line_deadline_s=0.3)) as live, live.dial() as peer:
        await peer.say_bytes(json.dumps(PING).encode() + b'\n{"type":')
        await peer.expect("PingResponse")
        (answer,) = await peer.hear_all()

    assert (answer["type"], answer["code"]) == ("Error", "too-slow")
    assert "the end of a line within 0.3 s" in answer["message"]


async def test_who_asks_faster_than_the_disk_writes_is_heard_later(tmp_path: Path) -> None:
    """Not refused, although it says one thing at a time: it is not read while half of what may wait does."""
    limits = Limits(max_waiting=4, busy_timeout_s=LONG_S)
    async with serving(tmp_path, limits=limits) as live, live.dial() as peer:
        await peer.submit({"kind": "A"})
        with closing(sqlite3.connect(live.settings.db, isolation_level=None)) as another:
            another.execute("BEGIN IMMEDIATE")
            for ref in range(20):
                await peer.say(submission({"kind": "A"}, ref=ref))
                await anyio.sleep(0.005)  # into a read of its own
        for ref in range(20):
            await peer.expect("SubmitResponse", ref=ref)


async def test_who_asks_and_does_not_read_is_not_heard_until_it_reads(tmp_path: Path) -> None:
    """Not cut off either, although it says one thing at a time: 36 MB are more than two systems keep for it."""
    said = 0

    async def ask(peer: Peer) -> None:
        nonlocal said
        for number in range(600):
            await peer.say({"type": "PingRequest", "timestamp": str(number).ljust(60_000)})
            said += 1
            await anyio.sleep(0.001)  # into a read of its own

    limits = Limits(max_queued=2 * 1024 * 1024)
    async with serving(tmp_path, limits=limits) as live, live.dial() as peer, create_task_group() as group:
        await peer.submit({"kind": "A"})
        group.start_soon(ask, peer)
        before = -1
        while said != before:
            before = said
            await anyio.sleep(0.2)
        for number in range(600):
            assert int((await peer.expect("PingResponse"))["timestamp"]) == number
    assert not live.logged("connection.cut")


async def test_a_server_may_take_shorter_lines_and_fewer_tasks(tmp_path: Path) -> None:
    """Each with its own refusal."""
    limits = Limits(max_line=131_072, max_payload=10, max_tasks_per_submit=2)
    async with serving(tmp_path, limits=limits) as live, live.dial() as peer:
        await peer.say(submission({"kind": "A"}, {"kind": "A"}, {"kind": "A"}, ref=1))
        await peer.expect("Error", code="too-many-tasks", ref=1)
        await peer.say(submission({"kind": "A", "payload": "123456789"}, ref=2))
        await peer.expect("Error", code="payload-too-large", ref=2)
        await peer.say(submission({"kind": "A", "payload": "x" * 131_072}, ref=3))
        await peer.expect("Error", code="line-too-long")
        assert await peer.hear_all() == []
