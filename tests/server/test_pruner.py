"""A server takes out what has stayed as long as it was to, beside everything else that it does."""

from __future__ import annotations

import math
from pathlib import Path

from tests.server.live import Live, Peer, failure, serving, submission, success
from tests.waiting import eventually
from tests.wire import Line

# Whoever is silent while a test waits is not dead.
PATIENT = {"heartbeat_timeout_s": 60.0}


async def complete(peer: Peer, **task: object) -> int:
    """Let a registered worker submit a task of its own and complete it; give its number."""
    await peer.submit({"kind": "A", **task})
    given = await peer.expect("Task")
    await peer.say(success(given))
    await peer.expect("ResultResponse", status="accepted")
    number: int = given["task_id"]
    return number


async def complete_many(peer: Peer, tasks: int) -> list[int]:
    """Let a registered worker with room for all of them complete so many new tasks."""
    ids = await peer.submit(*[{"kind": "A"}] * tasks)
    given = [await peer.expect("Task") for _ in ids]
    await peer.say(*[success(task) for task in given])
    for _ in ids:
        await peer.expect("ResultResponse", status="accepted")
    return ids


async def gone(live: Live, *tasks: int) -> None:
    """Wait until there are none of these tasks."""
    with live.reader() as reader:
        await eventually(lambda: not any(reader.tasks_by_id(tasks)))


async def test_a_completed_task_is_unknown_once_its_time_is_over(tmp_path: Path) -> None:
    """What waits and what has no limit stays; the key may be used for another task."""
    async with (
        serving(tmp_path, **PATIENT, keep_completed_s=0.3, keep_dead_s=math.inf) as live,
        live.dial() as peer,
    ):
        await peer.register("A")
        (waits,) = await peer.submit({"kind": "B"})
        dead = await _bury(peer)
        first = await complete(peer, key="k", payload=1)
        (known,) = await peer.query(first)
        await gone(live, first)
        second = await complete(peer, key="k", payload=2)

        assert known is None or known["state"] == "completed"
        assert second > first
        assert [task and task["state"] for task in await peer.query(waits, dead)] == ["pending", "dead"]
        await eventually(lambda: live.logged("tasks.pruned"))
        assert live.logged("tasks.not-pruned") == []


async def test_a_dead_task_is_cleared_once_its_time_is_over(tmp_path: Path) -> None:
    """The dead-letter log tells of it."""
    async with serving(tmp_path, **PATIENT, keep_dead_s=0.3) as live, live.dial() as peer:
        await peer.register("A")
        dead = await _bury(peer)
        await gone(live, dead)
        await eventually(lambda: len(live.log_lines()) == 2)

        died, cleared = live.log_lines()
        assert (died["event"], died["task"]) == ("dead", dead)
        assert (cleared["event"], cleared["task"], cleared["why"]) == ("cleared", dead, "retention")


async def test_hundreds_go_piece_by_piece_while_others_are_served(tmp_path: Path) -> None:
    """More than one piece holds, and each submission in between is answered."""
    async with serving(tmp_path, **PATIENT, keep_completed_s=1.0) as live, live.dial() as peer:
        await peer.register("A", capacity=1_000)
        ids = await complete_many(peer, 900)
        await peer.settled()
        await gone(live, *ids)

        assert await peer.query(*ids) == [None] * 900
        assert sum(event["tasks"] for event in await _told(live, 900)) == 900


async def test_a_server_that_keeps_everything_looks_for_nothing(tmp_path: Path) -> None:
    """No limit, no work."""
    forever = dict.fromkeys(("keep_completed_s", "keep_cancelled_s", "keep_dead_s"), math.inf)
    async with serving(tmp_path, **PATIENT, **forever) as live, live.dial() as peer:
        await peer.register("A")
        done = await complete(peer)
        await peer.settled()

        assert live.settings.retention.shortest is None
        assert live.state(done) == ("completed", 0)


async def _bury(peer: Peer) -> int:
    await peer.say(submission({"kind": "A"}))
    await peer.expect("SubmitResponse")
    given: Line = await peer.expect("Task")
    await peer.say(failure(given, retry=False))
    await peer.expect("ResultResponse", state="dead")
    number: int = given["task_id"]
    return number


async def _told(live: Live, tasks: int) -> list[Line]:
    await eventually(lambda: sum(event["tasks"] for event in live.logged("tasks.pruned")) >= tasks)
    return [dict(event) for event in live.logged("tasks.pruned")]
