"""The same key again and again, through a line that loses answers: one task."""

from __future__ import annotations

import random

from anyio import create_task_group, to_thread

from tests.acceptance.cluster import Cluster, end
from tests.faults import oracle
from tests.faults.drivers import BROKEN
from tests.faults.ledger import HASH, Ledger
from tests.faults.proxy import DOWN, Proxy, between
from tests.server.live import submission
from tests.wire import Line

TASK: Line = {"kind": HASH, "payload": "once", "key": "the same"}
PRODUCERS, TIMES = 8, 125


async def test_a_thousand_submissions_of_one_key_are_one_task(
    cluster: Cluster, ledger: Ledger, chance: random.Random
) -> None:
    """From eight producers at once, every other answer lost on the way: every answer that comes names the same id."""
    server = await to_thread.run_sync(cluster.start_server)
    answers: list[int] = []
    async with between(cluster.address) as proxy, create_task_group() as group:
        for _ in range(PRODUCERS):
            group.start_soon(_submit_again_and_again, proxy, ledger, random.Random(chance.random()), answers)
    await to_thread.run_sync(cluster.start_client, "real", "--concurrency", "1")
    cluster.eventually("the task is done", lambda: cluster.rows("SELECT state FROM tasks") == [("completed",)] or None)

    assert 200 < len(answers) < PRODUCERS * TIMES - 200
    assert set(answers) == {1}
    assert end(server) == 0
    assert cluster.rows("SELECT count(*) FROM assignments") == [(1,)]
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


async def _submit_again_and_again(proxy: Proxy, ledger: Ledger, chance: random.Random, answers: list[int]) -> None:
    for _ in range(TIMES):
        try:
            async with proxy.dial({DOWN: 0} if chance.random() < 0.5 else {}) as wire:
                await wire.say(submission(*ledger.intend([TASK])))
                answer = await wire.expect("SubmitResponse")
        except BROKEN:
            continue
        ledger.acknowledge([TASK], answer["ids"])
        answers.extend(answer["ids"])
