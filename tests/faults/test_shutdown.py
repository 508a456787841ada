"""SIGTERM while everybody is at work: an end in good order, and what is left goes back without blame."""

from __future__ import annotations

import random
import signal

import pytest
from anyio import to_thread

from tests.acceptance.cluster import Cluster, Process, end
from tests.faults import oracle, serverlog
from tests.faults.drivers import ECHO, KINDS, Producer, Worker, at_work, dial, hand_in
from tests.faults.ledger import Ledger
from tests.server.live import registration, success
from tests.waiting import eventually
from tests.wire import Line, Wire

OPTIONS = ("--retry-backoff", "10ms..20ms", *serverlog.JSON)
UNFINISHED = "SELECT 1 FROM tasks WHERE state NOT IN ('completed', 'dead') LIMIT 1"
# The clock of the log and that of the store were read at different moments.
CLOCKS_S = 0.05
# What a busy machine may need for the last writes.
SLACK_S = 5.0


async def test_a_terminated_server_ends_in_good_order_under_load(
    cluster: Cluster, ledger: Ledger, chance: random.Random
) -> None:
    """Five times: exit code 0, no assignment after the word, nothing left assigned, nobody blamed, nothing lost."""
    server = await _start(cluster)
    producers = [Producer(cluster.address, ledger, chance, f"p{number}", KINDS) for number in range(4)]
    workers = [Worker(cluster.address, ledger, chance, f"w{number}", failing=0) for number in range(4)]
    await to_thread.run_sync(cluster.start_client, "real", "--concurrency", "1")
    async with at_work(*producers, *workers):
        for number in range(5):
            before = len(ledger.accepted)
            await eventually(lambda before=before: len(ledger.accepted) > before + 10, within_s=30)  # type: ignore[misc]
            # More than can be done at once: there is something to be given out when the word comes.
            more = ({"kind": ECHO, "payload": n, "key": f"more {number}/{n}"} for n in range(100))
            await hand_in(cluster.address, ledger, *more)
            assert await to_thread.run_sync(end, server) == 0
            assert cluster.rows("SELECT 1 FROM tasks WHERE state = 'assigned'") == []
            assert cluster.rows("SELECT 1 FROM clients WHERE left_at IS NULL") == []
            ((assigned_at,),) = cluster.rows("SELECT max(assigned_at) / 1e6 FROM assignments")
            assert assigned_at < serverlog.events(cluster.folder, "draining")[-1]["at"] + CLOCKS_S
            oracle.check_running(cluster.db, cluster.log, ledger)
            server = await to_thread.run_sync(lambda: cluster.restart_server(*OPTIONS))
        for producer in producers:
            await producer.stop()
        await eventually(lambda: cluster.rows(UNFINISHED) == [], within_s=60)

    assert end(server) == 0
    assert cluster.rows("SELECT count(*) FROM assignments WHERE outcome IN ('died', 'failed')") == [(0,)]
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


async def test_running_work_may_finish(cluster: Cluster, ledger: Ledger) -> None:
    """A result that comes while the server waits is accepted; then it waits no longer."""
    server = await _start(cluster, "--shutdown-timeout", "60s")
    async with dial(cluster.address) as worker:
        task = await _take(cluster, ledger, worker)
        server.send_signal(signal.SIGTERM)
        await worker.expect("ShuttingDown")
        await worker.say(ledger.send(success(task, 1)))
        ledger.hear(await worker.expect("ResultResponse", status="accepted", state="completed"))

    assert await to_thread.run_sync(server.wait, 30) == 0
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


@pytest.mark.parametrize(
    ("limit", "terms", "least_s"), [("60s", 2, 0.0), ("500ms", 1, 0.5)], ids=["a second TERM", "the deadline"]
)
async def test_what_does_not_finish_goes_back_without_blame(
    cluster: Cluster, ledger: Ledger, limit: str, terms: int, least_s: float
) -> None:
    """A second TERM ends the wait at once, the deadline in its time; the exit code is 0 and the task waits again."""
    server = await _start(cluster, "--shutdown-timeout", limit)
    async with dial(cluster.address) as worker:
        await _take(cluster, ledger, worker)
        for _ in range(terms):
            server.send_signal(signal.SIGTERM)
            await eventually(lambda: serverlog.events(cluster.folder, "draining"))
        assert await to_thread.run_sync(server.wait, 30) == 0

    (draining,), (stopped,) = (serverlog.events(cluster.folder, name) for name in ("draining", "stopped"))
    assert least_s <= stopped["at"] - draining["at"] < least_s + SLACK_S
    assert cluster.rows("SELECT state, retry_count FROM tasks") == [("pending", 0)]
    assert cluster.rows("SELECT outcome FROM assignments") == [("released",)]
    oracle.check_running(cluster.db, cluster.log, ledger)


async def _start(cluster: Cluster, *options: str) -> Process:
    return await to_thread.run_sync(lambda: cluster.start_server(*OPTIONS, *options))


async def _take(cluster: Cluster, ledger: Ledger, worker: Wire) -> Line:
    await worker.say(registration(ECHO))
    await worker.expect("RegisterResponse")
    await hand_in(cluster.address, ledger, {"kind": ECHO, "payload": "held", "key": "held"})
    return await worker.expect("Task")
