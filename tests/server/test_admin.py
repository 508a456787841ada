"""An operator's commands over the wire: who may give them, and what they do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.introduction import introduce
from tests.server.live import Live, Peer, failure, serving, success
from tests.waiting import eventually
from tests.wire import Line

NOTHING: Line = {"selection": {}, "limit": 1}
EVERYTHING: Line = {"selection": {"everything": True}, "limit": 100}


def order(command: str, args: Any) -> Line:
    """Write an `Admin`."""
    return {"type": "Admin", "ref": 9, "command": command, "args": args}


@pytest.fixture
async def operator(live: Live) -> AsyncIterator[Peer]:
    """A connection of the operator of this machine, who may do there what anybody may, too."""
    async with live.dial() as peer:
        await peer.become_operator(live)
        yield peer


async def bury(peer: Peer, *payloads: str) -> list[int]:
    """Let a registered worker's own tasks die."""
    ids = []
    for payload in payloads:
        ids += await peer.submit({"kind": "A", "payload": payload})
        await peer.say(failure(await peer.expect("Task"), payload, retry=False))
        await peer.expect("ResultResponse", state="dead")
    return ids


@pytest.mark.parametrize("command", ["deadletter.clear", "stats", "no.such"])
async def test_without_a_handshake_nothing_is_done(peer: Peer, command: str) -> None:
    """And nothing told, not even whether there is such a command; the connection ends."""
    await peer.say(order(command, EVERYTHING), order(command, EVERYTHING))

    (answer,) = await peer.hear_all()
    assert (answer["type"], answer["code"], answer["ref"]) == ("Error", "unauthenticated", 9)
    assert "wanted a token of role admin for Admin, found none" in answer["message"]


async def test_a_wrong_secret_ends_the_connection(peer: Peer) -> None:
    """There is no second try."""
    answer = await introduce(peer, "0" * 64)

    assert (answer["type"], answer["code"]) == ("Error", "unauthenticated")
    assert "started without --token-file" in answer["message"]
    assert await peer.hear_all() == []


async def test_an_unknown_command_is_answered_with_those_there_are(operator: Peer) -> None:
    """Whoever mistypes one sees the right one."""
    answer = await operator.ask(order("deadletter.clean", EVERYTHING))

    assert (answer["code"], answer["ref"]) == ("unknown-command", 9)
    assert "deadletter.clear, deadletter.count" in answer["message"]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ({}, "`selection`"),
        ([], "Expected `object`"),
        ({"selection": {}}, "`limit`"),
        ({"selection": {}, "limit": 0}, "from 1 to 10000"),
        ({"selection": {}, "limit": 10_001}, "from 1 to 10000"),
        ({"selection": {}, "limit": 1, "dry_run": True}, "`dry_run`"),
        ({"selection": {"idz": [1]}, "limit": 1}, "`idz`"),
        ({"selection": {"ids": 1}, "limit": 1}, "$.selection.ids"),
    ],
)
async def test_wrong_arguments_are_named(operator: Peer, args: Any, complaint: str) -> None:
    """A field that is not known is refused too: a condition that was not understood would select too much."""
    answer = await operator.ask(order("deadletter.clear", args))

    assert (answer["code"], answer["ref"]) == ("bad-arguments", 9)
    assert complaint in answer["message"]


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**400])
@pytest.mark.parametrize("field", ["ids", "died_before", "through"])
async def test_numbers_that_no_store_holds_harm_nothing(live: Live, peer: Peer, field: str, number: int) -> None:
    """They are refused by the field's name; the server goes on."""
    await peer.become_operator(live)
    await peer.register("A")
    await bury(peer, "x")
    selection = {"ids": [number]} if field == "ids" else {"everything": True, field: number}
    answer = await peer.ask(order("deadletter.clear", {"selection": selection, "limit": 1}))

    assert answer["ref"] == 9
    assert answer["code"] == "bad-arguments"
    assert f"$.selection.{field}" in answer["message"]
    assert await peer.settled() == []


async def test_reprocessed_tasks_run_again(live: Live, peer: Peer) -> None:
    """With the same id and a fresh count; it is recorded, in the log too."""
    await peer.become_operator(live)
    await peer.register("A")
    first, second, third = await bury(peer, "one", "two", "three")
    await peer.say(order("deadletter.reprocess", {"selection": {"ids": [second, third, 999]}, "limit": 1}))

    await peer.expect("AdminResponse", ref=9, result={"done": 1, "left": 1})
    again = await peer.expect("Task", task_id=second, retry_count=0)
    await peer.say(success(again))
    await peer.expect("ResultResponse", status="accepted", state="completed")
    assert [live.state(id)[0] for id in (first, second, third)] == ["dead", "completed", "dead"]
    lines = await eventually(lambda: live.log_lines()[3:])
    assert [(line["event"], line["task"]) for line in lines] == [("reprocessed", second)]
    assert [(event["command"], event["done"]) for event in live.logged("admin.command")] == [("reprocess", 1)]


async def test_cleared_tasks_are_gone(live: Live, peer: Peer) -> None:
    """Asking for them finds nothing; the log keeps what they were."""
    await peer.become_operator(live)
    await peer.register("A")
    ids = await bury(peer, "one", "two")
    await peer.say(order("deadletter.clear", {"selection": {"error": "ONE"}, "limit": 5}))
    await peer.expect("AdminResponse", result={"done": 1, "left": 0})

    assert [task and task["state"] for task in await peer.query(*ids)] == [None, "dead"]
    lines = await eventually(lambda: live.log_lines()[2:])
    assert [(line["event"], line["task"], line["payload"]) for line in lines] == [("cleared", ids[0], '"one"')]


async def test_an_empty_selection_selects_nothing(live: Live, peer: Peer) -> None:
    """A script whose list came out empty must not clear everything."""
    await peer.become_operator(live)
    await peer.register("A")
    (id,) = await bury(peer, "x")
    await peer.say(order("deadletter.clear", NOTHING))

    await peer.expect("AdminResponse", result={"done": 0, "left": 0})
    assert live.state(id)[0] == "dead"


async def test_a_follower_hears_of_a_second_end(live: Live, peer: Peer, other: Peer) -> None:
    """Whoever asks again after a reprocessing is told how it went this time."""
    await other.become_operator(live)
    await peer.register("A")
    (id,) = await bury(peer, "x")
    await other.say(order("deadletter.reprocess", EVERYTHING))
    await other.expect("AdminResponse")
    await other.query(id, notify=True)
    await peer.say(success(await peer.expect("Task", task_id=id), "well"))

    await other.expect("TaskFinished", task_id=id, state="completed", value="well")


async def test_an_operator_is_served_during_the_drain(tmp_path: Path) -> None:
    """He may be the one who waits for it."""
    async with serving(tmp_path) as live, live.dial() as peer, live.dial() as operator:
        await operator.become_operator(live)
        await peer.register("A")
        await bury(peer, "x")
        await peer.submit({"kind": "A"})
        await peer.expect("Task")
        live.stop.drain.set()
        await operator.expect("ShuttingDown")
        await operator.say(order("deadletter.clear", EVERYTHING))

        await operator.expect("AdminResponse", result={"done": 1, "left": 0})
