"""A connection cut after every byte of a conversation, in either direction: nothing is lost or left open."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from anyio import create_task_group, to_thread

from tests.acceptance.cluster import Cluster, end
from tests.faults import oracle, serverlog
from tests.faults.drivers import BROKEN, ECHO, dial
from tests.faults.ledger import Ledger
from tests.faults.proxy import DOWN, UP, Proxy, between
from tests.server.live import registration, submission, success
from tests.waiting import eventually
from tests.wire import Line, Wire

OPTIONS = ("--reconnect-grace", "5s", *serverlog.JSON)
# More than either side says in one conversation.
LONGEST = 700
AT_ONCE = 10


class Conversation:
    """Register, submit a task, run it, and leave; after a break it goes on where the other side has heard it last."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        self._ledger = ledger
        self._task: Line = {"kind": f"{ECHO} {name}", "payload": name, "key": name}
        self._me = {**registration(self._task["kind"], name=name), "instance": name}
        self._held: Line | None = None
        self._is_acknowledged = False

    async def hold(self, wire: Wire) -> None:
        """Say everything that is still to be said."""
        await wire.say({**self._me, "resume": [] if self._held is None else [self._held["assignment"]]})
        await wire.expect("RegisterResponse")
        if not self._is_acknowledged:
            await wire.say(submission(*self._ledger.intend([self._task])))
        result = None if self._held is None else self._ledger.send(success(self._held, self._held["assignment"]))
        if result is not None:
            await wire.say(result)
        while not await self._has_heard_all(wire):
            pass
        await wire.say({"type": "Goodbye"})
        assert await wire.hear_all() == []

    async def _has_heard_all(self, wire: Wire) -> bool:
        match await wire.hear():
            case {"type": "SubmitResponse", "ids": ids}:
                self._ledger.acknowledge([self._task], ids)
                self._is_acknowledged = True
            case {"type": "Task"} as task:
                self._held = task
                await wire.say(self._ledger.send(success(task, task["assignment"])))
            case {"type": "ResultResponse"} as answer:
                self._ledger.hear(answer)
                return self._is_acknowledged
            case message:
                raise AssertionError(f"heard {message}")
        return False


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.soak)])
async def test_a_connection_may_end_after_any_byte(
    cluster: Cluster, ledger: Ledger, chance: random.Random, step: int
) -> None:
    """What was cut is taken up on the next connection; each task is done once, without blame, and nothing leaks."""
    server = await to_thread.run_sync(lambda: cluster.start_server(*OPTIONS))
    async with dial(cluster.address) as wire:
        await Conversation("whole", ledger).hold(wire)
    at_first = _descriptors(server.pid)
    cuts = [(way, after) for way in (UP, DOWN) for after in range(chance.randrange(step), LONGEST, step)]
    async with between(cluster.address) as proxy:
        for first in range(0, len(cuts), AT_ONCE):
            async with create_task_group() as group:
                for way, after in cuts[first : first + AT_ONCE]:
                    group.start_soon(_hold_and_cut, proxy, way, after, Conversation(f"{way} {after}", ledger))

    await eventually(lambda: cluster.rows("SELECT 1 FROM clients WHERE left_at IS NULL") == [])
    assert cluster.rows("SELECT DISTINCT outcome FROM assignments WHERE outcome NOT IN ('completed', 'released')") == []
    await eventually(lambda: _descriptors(server.pid) <= at_first)
    assert end(server) == 0
    assert len(ledger.acknowledged) == len(cuts) + 1
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


async def _hold_and_cut(proxy: Proxy, way: str, after: int, conversation: Conversation) -> None:
    for cut in ({way: after}, {}):
        try:
            async with proxy.dial(cut) as wire:
                await conversation.hold(wire)
        except BROKEN:
            continue


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
