"""Results that must not count: of an attempt that is over, of another's attempt, of none; and one that is repeated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from anyio import to_thread

from tests.acceptance.cluster import Cluster, end
from tests.faults import oracle
from tests.faults.drivers import ECHO, dial, hand_in
from tests.faults.ledger import Ledger
from tests.server.live import failure, registration, release, success
from tests.wire import Line, Wire

TASK: Line = {"kind": ECHO, "payload": "?", "key": "k"}


@pytest.mark.parametrize("giving_up", [release, failure], ids=["given back", "failed"])
async def test_only_the_current_attempt_counts(
    cluster: Cluster, ledger: Ledger, giving_up: Callable[[Line], Line]
) -> None:
    """A result of the earlier attempt, under its own number or the new one, is stale, before and after the true one."""
    server = await to_thread.run_sync(lambda: cluster.start_server("--retry-backoff", "10ms..10ms"))
    async with dial(cluster.address) as old, dial(cluster.address) as new:
        await _register(old, "old")
        await hand_in(cluster.address, ledger, TASK)
        first = await old.expect("Task")
        await old.say({"type": "Capacity", "capacity": 0}, giving_up(first))
        await old.expect("ResultResponse", status="accepted")
        await _register(new, "new")
        second = await new.expect("Task")

        await old.say(success(first, "late"), success(second, "forged"), success({**second, "assignment": 999}, "none"))
        for _ in range(3):
            await old.expect("ResultResponse", status="stale", state="assigned")
        await new.say(ledger.send(success(second, "true")))
        ledger.hear(await new.expect("ResultResponse", status="accepted", state="completed"))
        await old.say(success(first, "late"), success(second, "forged"), failure(second))
        for _ in range(3):
            await old.expect("ResultResponse", status="stale", state="completed")

    assert end(server) == 0
    assert cluster.rows("SELECT result FROM tasks") == [('"true"',)]
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


async def test_the_accepted_result_may_be_repeated(cluster: Cluster, ledger: Ledger) -> None:
    """A hundred times, over several connections and a restart: accepted each time, counted once, the first one kept."""
    server = await to_thread.run_sync(cluster.start_server)
    me = {**registration(ECHO, name="me"), "instance": "me"}
    async with dial(cluster.address) as worker:
        await worker.say(me)
        await worker.expect("RegisterResponse")
        await hand_in(cluster.address, ledger, TASK)
        task = await worker.expect("Task")
        await worker.say(*[ledger.send(success(task, "first"))] * 50)
        for _ in range(50):
            ledger.hear(await worker.expect("ResultResponse", status="accepted", state="completed"))
    assert await to_thread.run_sync(end, server) == 0
    server = await to_thread.run_sync(cluster.restart_server)
    async with dial(cluster.address) as worker:
        await worker.say({**me, "resume": [task["assignment"]]})
        await worker.expect("RegisterResponse", lost=[task["assignment"]])
        await worker.say(*[success(task, "another word")] * 50)
        for _ in range(50):
            await worker.expect("ResultResponse", status="accepted", state="completed")
        await worker.say(failure(task))
        await worker.expect("ResultResponse", status="stale", state="completed")

    assert end(server) == 0
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


async def _register(wire: Wire, name: str) -> None:
    await wire.say(registration(ECHO, name=name))
    await wire.expect("RegisterResponse")
