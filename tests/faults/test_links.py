"""Lines that fail: half-open, dead in one direction, flapping. Nothing ends twice, and whoever was cut off is back."""

from __future__ import annotations

import random
import time

import anyio
import pytest
from anyio import to_thread

from tests.acceptance.cluster import Cluster, Process, end
from tests.faults import oracle, serverlog
from tests.faults.drivers import KINDS, Producer, Worker, at_work
from tests.faults.ledger import Ledger
from tests.faults.proxy import BOTH, DOWN, UP, between
from tests.waiting import eventually

OPTIONS = (
    *("--heartbeat-interval", "200ms", "--heartbeat-timeout", "1500ms", "--heartbeat-check", "100ms"),
    *("--reconnect-grace", "200ms", "--retry-backoff", "10ms..20ms", *serverlog.JSON),
)
TIMEOUT_S = 1.5
BACK_WITHIN_S = 5.0
UNFINISHED = "SELECT 1 FROM tasks WHERE state NOT IN ('completed', 'dead') LIMIT 1"


@pytest.mark.parametrize(
    "directions", [BOTH, (UP,), (DOWN,)], ids=["half-open", "nothing gets up", "nothing gets down"]
)
async def test_a_client_is_back_after_the_line_has_healed(
    cluster: Cluster, ledger: Ledger, chance: random.Random, directions: tuple[str, ...]
) -> None:
    """Both sides give the other up in silence; then it comes back by itself, and what was sent twice counts once."""
    server = await _start(cluster)
    direct = cluster.address
    near = Worker(direct, ledger, chance, "near")
    async with between(direct) as proxy:
        far = [Worker(proxy.address, ledger, chance, f"far-{number}") for number in range(3)]
        producers = [
            Producer(direct, ledger, chance, "p1", KINDS),
            Producer(proxy.address, ledger, chance, "p2", KINDS),
        ]
        cluster.address = proxy.address
        await to_thread.run_sync(cluster.start_client, "real", "--concurrency", "1")
        async with at_work(near, *far, *producers):
            await eventually(lambda: len(ledger.accepted) > 20, within_s=30)
            proxy.hold(*directions)
            await anyio.sleep(2 * TIMEOUT_S)
            healed_at = time.time()
            proxy.let_go()
            back = await eventually(lambda: _is_back(cluster, "real", healed_at), within_s=30)
            for producer in producers:
                await producer.stop()
            await eventually(lambda: cluster.rows(UNFINISHED) == [], within_s=60)

    assert back - healed_at < BACK_WITHIN_S
    assert end(server) == 0
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


async def test_a_flapping_line_costs_nothing_but_time(cluster: Cluster, ledger: Ledger, chance: random.Random) -> None:
    """Thirty cuts at random moments; everybody goes on, and every result counts once."""
    server = await _start(cluster)
    async with between(cluster.address) as proxy:
        workers = [Worker(proxy.address, ledger, chance, f"w{number}") for number in range(4)]
        producers = [Producer(proxy.address, ledger, chance, f"p{number}", KINDS) for number in range(4)]
        cluster.address = proxy.address
        await to_thread.run_sync(cluster.start_client, "real", "--concurrency", "1")
        async with at_work(*workers, *producers):
            for _ in range(30):
                before = len(ledger.acknowledged)
                await eventually(lambda before=before: len(ledger.acknowledged) > before)  # type: ignore[misc]
                await anyio.sleep(chance.random() * 0.1)
                proxy.cut()
            for producer in producers:
                await producer.stop()
            await eventually(lambda: cluster.rows(UNFINISHED) == [], within_s=60)

    assert end(server) == 0
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


async def _start(cluster: Cluster) -> Process:
    return await to_thread.run_sync(lambda: cluster.start_server(*OPTIONS))


def _is_back(cluster: Cluster, name: str, healed_at: float) -> float | None:
    """Say when the server heard the client again."""
    heard = f"SELECT max(last_heartbeat_at) / 1e6 FROM clients WHERE name = '{name}' AND left_at IS NULL"
    ((at,),) = cluster.rows(heard)
    return at if at is not None and at > healed_at else None
