"""kill -9 of the server at random moments, from its first instruction on, with everybody at work."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
import pytest
from anyio import to_thread

from tests.acceptance.cluster import Cluster, Process, end, kill
from tests.faults import oracle
from tests.faults.drivers import KINDS, Producer, Worker, at_work
from tests.faults.ledger import Ledger
from tests.waiting import eventually

FAST_RETRIES = ("--retry-backoff", "10ms..20ms")
LOOK_AFTER = 25


@pytest.mark.parametrize("kills", [100, pytest.param(1_000, marks=pytest.mark.soak)])
async def test_a_server_killed_again_and_again_loses_nothing_and_counts_nothing_twice(
    cluster: Cluster, ledger: Ledger, chance: random.Random, kills: int, figure: Callable[[str], None]
) -> None:
    """Everything acknowledged ends once, and neither a restart nor a task that got lost on its way costs a retry."""
    server = await to_thread.run_sync(_start, cluster)
    for name in ("real-1", "real-2"):
        await to_thread.run_sync(cluster.start_client, name, "--concurrency", "1")
    producers = [Producer(cluster.address, ledger, chance, f"p{number}", KINDS) for number in range(4)]
    workers = [Worker(cluster.address, ledger, chance, f"w{number}") for number in range(2)]
    async with at_work(*producers, *workers):
        for number in range(1, kills + 1):
            if chance.random() < 0.75:
                await _is_at_work(ledger)
            await anyio.sleep(chance.random() * 0.06)
            kill(server)
            server = cluster.restart_unseen(*FAST_RETRIES)
            if number % LOOK_AFTER == 0:
                await to_thread.run_sync(oracle.check_running, cluster.db, cluster.log, ledger)
        for producer in producers:
            await producer.stop()
        await eventually(lambda: _all_ended(cluster), within_s=60)

    assert end(server) == 0
    oracle.check_at_rest(cluster.db, cluster.log, ledger)
    assert cluster.rows("SELECT count(*) FROM assignments WHERE outcome = 'died'") == [(0,)]
    figure(
        f"{kills} kills: {len(ledger.acknowledged)} tasks acknowledged, {len(ledger.accepted)} results accepted by hand"
    )
    assert len(ledger.acknowledged) > kills / 2
    assert ledger.accepted


def _start(cluster: Cluster) -> Process:
    return cluster.start_server(*FAST_RETRIES)


async def _is_at_work(ledger: Ledger) -> None:
    before = len(ledger.acknowledged)
    await eventually(lambda: len(ledger.acknowledged) > before)


def _all_ended(cluster: Cluster) -> bool:
    return cluster.rows("SELECT 1 FROM tasks WHERE state NOT IN ('completed', 'dead') LIMIT 1") == []
