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

FAST = ("--heartbeat-interval", "200ms", "--heartbeat-timeout", "1500ms", "--heartbeat-check", "100ms")
REAL: tuple[str, ...] = ()
OPTIONS = ("--retry-backoff", "10ms..20ms", "--insecure", *serverlog.JSON)
BACK_WITHIN_S = 5.0
NUMBER = str(mpz(2) ** 3_217 - 1)
COMPLETED = "SELECT count(*) FROM assignments WHERE outcome = 'completed'"
UNFINISHED = "SELECT 1 FROM tasks WHERE state NOT IN ('completed', 'dead') LIMIT 1"
ALL = 60


@pytest.fixture
def cable() -> Iterator[Cable]:
    """Give a cable, or skip where there can be none."""
    if reason := namespaces.why_not():
        pytest.skip(reason)
    with namespaces.cable() as cable:
        yield cable


OUTAGES = [
    pytest.param(FAST, "client", 2.5, id="fast, the client's"),
    *(
        pytest.param(pace, who, lasts_s, marks=pytest.mark.soak, id=f"{name}, {who}, {lasts_s:g} s")
        for name, pace in (("fast", FAST), ("real", REAL))
        for who in ("client", "server", "both")
        for lasts_s in (3.2, 7.3, 9.1, 13.0, 27.0)
    ),
]


@pytest.mark.parametrize(("pace", "who", "lasts_s"), OUTAGES)
async def test_a_client_whose_packets_were_lost_is_back(
    cable: Cable,
    nursery: Nursery,
    tmp_path: Path,
    ledger: Ledger,
    figure: Callable[[str], None],
    pace: tuple[str, ...],
    who: str,
    lasts_s: float,
) -> None:
    """However long the outage and whichever way it works, five seconds after it, with nothing ended twice."""
    await _fill(Cluster(Path(sys.executable).parent, tmp_path, nursery.spawn), ledger)
    cluster = Cluster(Path(sys.executable).parent, tmp_path, cable.spawn)
    try:
        server = cluster.start_server("--host", SERVER, *pace, *OPTIONS)
        cluster.start_client("far", "--concurrency", "1")
        cluster.eventually("it is at work", lambda: cluster.rows(COMPLETED) > [(3,)] or None)
        cable.lose(*{"client": [cable.client], "server": [cable.server], "both": [cable.client, cable.server]}[who])
        await anyio.sleep(lasts_s)
        healed_at = time.time()
        cable.heal()
        back_s = cluster.eventually("it is back", lambda: _reported_after(cluster, healed_at), within_s=60) - healed_at
        pace_name = "heartbeats of 0.2 s" if pace else "the defaults"
        figure(
            f"{pace_name}: packets of {who} lost for {lasts_s:g} s, the client's next result {back_s:.2f} s after that"
        )
        cluster.eventually("all is done", lambda: cluster.rows(UNFINISHED) == [] or None, within_s=120)
        assert end(server) == 0
    finally:
        cluster.kill_all()

    oracle.check_at_rest(cluster.db, cluster.log, ledger)
    assert back_s < BACK_WITHIN_S


async def _fill(cluster: Cluster, ledger: Ledger) -> None:
    server = cluster.start_server()
    await hand_in(
        cluster.address, ledger, *({"kind": "CheckPrime", "payload": NUMBER, "key": f"k{n}"} for n in range(ALL))
    )
    assert end(server) == 0


FIRST_RESULT = "SELECT min(finished_at) / 1e6 FROM assignments WHERE outcome = 'completed'"


def _reported_after(cluster: Cluster, healed_at: float) -> float | None:
    ((at,),) = cluster.rows(f"{FIRST_RESULT} AND finished_at > {healed_at * 1e6:.0f}")
    first: float | None = at
    return first
