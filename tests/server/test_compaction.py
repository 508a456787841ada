"""A live server rewrites its own store; whoever asks meanwhile waits, and is served then."""

from __future__ import annotations

from pathlib import Path

from anyio import create_task_group

from dtm.server.limits import Limits
from tests.server.live import Live, Peer, serving, submission, success
from tests.server.test_admin import order
from tests.waiting import eventually

COMPACT = order("compact", {})
LARGE = "x" * 100_000


async def complete_and_forget(live: Live, peer: Peer) -> None:
    """Let tasks of some weight come and go."""
    await peer.register("A", capacity=100)
    ids = await peer.submit(*[{"kind": "A", "payload": LARGE}] * 8)
    for _ in ids:
        await peer.say(success(await peer.expect("Task")))
    with live.reader() as reader:
        await eventually(lambda: not any(reader.tasks_by_id(ids)))
    await peer.settled()


async def test_it_gives_back_what_is_free_and_goes_on(tmp_path: Path) -> None:
    """The answer tells both sizes; what was submitted meanwhile is taken in."""
    async with (
        serving(tmp_path, keep_completed_s=0.1) as live,
        live.dial() as peer,
        live.dial() as operator,
        live.dial() as producer,
    ):
        await complete_and_forget(live, peer)
        await operator.become_operator(live)
        space = (await operator.ask(order("space", {})))["result"]
        async with create_task_group() as group:
            group.start_soon(operator.say, COMPACT)
            group.start_soon(producer.say, submission({"kind": "B"}))
        answer = await operator.hear()
        taken = await producer.expect("SubmitResponse")

        assert answer["type"] == "AdminResponse", answer
        assert answer["result"]["before"] == space
        assert space["free"] > 400_000
        assert answer["result"]["after"]["free"] == 0
        assert answer["result"]["after"]["taken"] <= space["taken"] - space["free"]
        assert live.state(taken["ids"][0]) == ("pending", 0)
        assert [event["after"] for event in live.logged("store.compacted")] == [answer["result"]["after"]["taken"]]


async def test_one_at_a_time(tmp_path: Path) -> None:
    """A second order is put off while the first is under way, and taken after it."""
    async with serving(tmp_path) as live, live.dial() as operator:
        await operator.become_operator(live)
        await operator.say(COMPACT, COMPACT)
        answers = [await operator.hear(), await operator.hear()]
        again = await operator.ask(COMPACT)

        assert sorted(answer["type"] for answer in answers) == ["AdminResponse", "Error"]
        assert {answer.get("code") for answer in answers} == {None, "store-busy"}
        assert again["type"] == "AdminResponse"


async def test_without_room_the_server_says_so_and_goes_on(tmp_path: Path) -> None:
    """It keeps free what submissions need free: compacting must not get them refused."""
    async with serving(tmp_path, limits=Limits(min_free_disk=2**60)) as live, live.dial() as operator:
        await operator.become_operator(live)
        answer = await operator.ask(COMPACT)

        assert (answer["type"], answer["code"]) == ("Error", "refused")
        assert "free to compact a store of" in answer["message"]
        assert live.logged("store.not-compacted")
        assert (await operator.ask(order("space", {})))["result"]["taken"] > 0


async def test_a_stranger_may_not(tmp_path: Path) -> None:
    """Only an operator."""
    async with serving(tmp_path) as live, live.dial() as peer:
        answer = await peer.ask(COMPACT)

        assert (answer["type"], answer["code"]) == ("Error", "unauthenticated")
        assert live.logged("store.compacting") == []
