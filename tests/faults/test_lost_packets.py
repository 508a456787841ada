"""Packets that get lost between two machines: both sides fall silent, and nobody tells either."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from gmpy2 import mpz  # type: ignore[import-untyped]

from tests.acceptance.cluster import Cluster, end
from tests.faults import namespaces, oracle, serverlog
from tests.faults.drivers import hand_in
from tests.faults.ledger import Ledger
from tests.faults.namespaces import SERVER, Cable
from tests.faults.nursery import Nursery

OPTIONS = (
    *("--heartbeat-interval", "200ms", "--heartbeat-timeout", "1500ms", "--heartbeat-check", "100ms"),
    *("--retry-backoff", "10ms..20ms", *serverlog.JSON),
)
BACK_WITHIN_S = 5.0
NUMBER = str(mpz(2) ** 4_423 - 1)
COMPLETED = "SELECT count(*) FROM tasks WHERE state = 'completed'"
UNFINISHED = "SELECT 1 FROM tasks WHERE state NOT IN ('completed', 'dead') LIMIT 1"
ALL = 40


@pytest.fixture
def cable() -> Iterator[Cable]:
    """Give a cable, or skip where there can be none."""
    if reason := namespaces.why_not():
        pytest.skip(reason)
    with namespaces.cable() as cable:
        yield cable


soak = pytest.mark.soak
OUTAGES = [
    pytest.param("client", 2.5),
    *(
        pytest.param(who, lasts_s, marks=soak)
        for who in ("client", "server", "both")
        for lasts_s in (3.2, 5.3, 7.3, 8.6, 10.1, 13.0, 21.0)
    ),
]


@pytest.mark.parametrize(("who", "lasts_s"), OUTAGES)
async def test_a_client_whose_packets_were_lost_is_back(
    cable: Cable,
    nursery: Nursery,
    tmp_path: Path,
    ledger: Ledger,
    who: str,
    lasts_s: float,
    figure: Callable[[str], None],
) -> None:
    """However long the outage and whichever way it works, five seconds after it, with nothing ended twice."""
    await _fill(Cluster(Path(sys.executable).parent, tmp_path, nursery.spawn), ledger)
    cluster = Cluster(Path(sys.executable).parent, tmp_path, cable.spawn)
    try:
        server = cluster.start_server("--host", SERVER, "--insecure", *OPTIONS)
        cluster.start_client("far", "--concurrency", "2")
        cluster.eventually("it is at work", lambda: cluster.rows(COMPLETED) > [(5,)] or None)
        cable.lose(*{"client": [cable.client], "server": [cable.server], "both": [cable.client, cable.server]}[who])
        await anyio.sleep(lasts_s)
        healed_at = time.time()
        cable.heal()
        back_s = cluster.eventually("it is back", lambda: _heard_after(cluster, healed_at)) - healed_at
        figure(f"packets of {who} lost for {lasts_s:g} s: the client is back {back_s:.2f} s later")
        cluster.eventually("all is done", lambda: cluster.rows(UNFINISHED) == [] or None, within_s=120)
        assert end(server) == 0
    finally:
        cluster.kill_all()

    assert back_s < BACK_WITHIN_S
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


async def _fill(cluster: Cluster, ledger: Ledger) -> None:
    server = cluster.start_server()
    await hand_in(
        cluster.address, ledger, *({"kind": "CheckPrime", "payload": NUMBER, "key": f"k{n}"} for n in range(ALL))
    )
    assert end(server) == 0


def _heard_after(cluster: Cluster, healed_at: float) -> float | None:
    ((at,),) = cluster.rows("SELECT max(last_heartbeat_at) / 1e6 FROM clients WHERE left_at IS NULL")
    return at if at is not None and at > healed_at else None
