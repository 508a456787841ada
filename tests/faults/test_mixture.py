"""Everything at once: random faults against a cluster at work, for minutes, the oracle asked after each."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest
from anyio import to_thread

from tests.acceptance.cluster import Cluster
from tests.faults import oracle
from tests.faults.drivers import KINDS, Producer, Worker, at_work
from tests.faults.ledger import Ledger
from tests.faults.mixture import Mixture
from tests.faults.proxy import between
from tests.waiting import eventually

MINUTES = float(os.environ.get("MINUTES") or 5)
UNFINISHED = "SELECT 1 FROM tasks WHERE state NOT IN ('completed', 'dead') LIMIT 1"


@pytest.mark.parametrize("minutes", [pytest.param(MINUTES, marks=pytest.mark.soak)])
async def test_whatever_happens_the_story_stays_true(
    cluster: Cluster, ledger: Ledger, chance: random.Random, minutes: float, figure: Callable[[str], None]
) -> None:
    """Kills, freezes, cuts, hung lines, restarts and an operator's commands: not one task is lost or counted twice."""
    mixture = await to_thread.run_sync(Mixture, cluster, chance)
    happened: Counter[str] = Counter()
    async with between(mixture.direct) as proxy:
        cluster.address = proxy.address
        for _ in range(3):
            await mixture.start_client()
        everywhere = (mixture.direct, proxy.address) * 2
        producers = [Producer(where, ledger, chance, f"p{n}", KINDS, pause_s=0.3) for n, where in enumerate(everywhere)]
        workers = [Worker(where, ledger, chance, f"w{n}", failing=0.3) for n, where in enumerate(everywhere)]
        async with at_work(*producers, *workers):
            give_up_s = time.monotonic() + 60 * minutes
            while time.monotonic() < give_up_s:
                fault = await mixture.happen(proxy)
                happened[fault] += 1
                sys.stdout.write(f"{happened.total()}: {fault}\n")
                await to_thread.run_sync(oracle.check_running, cluster.db, cluster.log, ledger)
            for producer in producers:
                await producer.stop()
            await eventually(lambda: cluster.rows(UNFINISHED) == [], within_s=120)
            assert await mixture.end() == 0

    oracle.check_at_rest(cluster.db, cluster.log, ledger)
    assert ledger.acknowledged
    figure(
        f"{happened.total()} faults in {minutes:g} minutes: {', '.join(f'{n} {what}' for what, n in happened.items())}"
    )
    figure(f"{len(ledger.acknowledged)} tasks acknowledged, {len(ledger.intents)} intended, all as they should be")
