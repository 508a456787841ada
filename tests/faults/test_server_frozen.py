"""A server that stands still: stopped for longer than the heartbeat timeout, with everybody pinging."""

from __future__ import annotations

import random
import signal

import anyio
import pytest
from anyio import to_thread

from tests.acceptance.cluster import Cluster, end
from tests.faults import oracle, serverlog
from tests.faults.drivers import ECHO, KINDS, Producer, Worker, at_work, dial
from tests.faults.ledger import Ledger
from tests.server.live import registration, submission, success
from tests.waiting import eventually

FAST = ("--heartbeat-interval", "200ms", "--heartbeat-timeout", "1500ms", "--heartbeat-check", "100ms")
TIMEOUT_S = 1.5
PRESENT = "SELECT count(*) FROM clients WHERE left_at IS NULL"


@pytest.mark.parametrize(
    ("options", "frozen_s"),
    [
        (FAST, 2 * TIMEOUT_S),
        pytest.param(FAST, 10 * TIMEOUT_S, marks=pytest.mark.soak),
        # The defaults: a timeout of 30 s, a check each 5 s.
        pytest.param((), 10 * 30.0, marks=pytest.mark.soak),
    ],
    ids=["fast", "long", "real"],
)
async def test_a_frozen_server_declares_nobody_dead(
    cluster: Cluster,
    ledger: Ledger,
    chance: random.Random,
    options: tuple[str, ...],
    frozen_s: float,
) -> None:
    """It could hear nobody, so nobody was silent: 50 clients and real ones with work in hand are there as before."""
    server = await to_thread.run_sync(lambda: cluster.start_server(*options, *serverlog.JSON))
    for name in ("real-1", "real-2"):
        await to_thread.run_sync(cluster.start_client, name, "--concurrency", "1")
    workers = [Worker(cluster.address, ledger, chance, f"w{number}", failing=0) for number in range(50)]
    producer = Producer(cluster.address, ledger, chance, "p", KINDS)
    async with at_work(*workers, producer):
        await eventually(lambda: len(ledger.acknowledged) > 20 and cluster.rows(PRESENT) == [(52,)])
        server.send_signal(signal.SIGSTOP)
        await anyio.sleep(frozen_s)
        server.send_signal(signal.SIGCONT)
        await eventually(lambda: serverlog.events(cluster.folder, "server.paused"))
        before = len(ledger.accepted)
        await eventually(lambda: len(ledger.accepted) > before + 20, within_s=30)
        await producer.stop()
        await eventually(
            lambda: cluster.rows("SELECT 1 FROM tasks WHERE state <> 'completed' LIMIT 1") == [], within_s=30
        )

        assert serverlog.events(cluster.folder, "client.died") == []
        assert cluster.rows(PRESENT) == [(52,)]
    assert end(server) == 0
    assert cluster.rows("SELECT count(*) FROM assignments WHERE outcome IN ('died', 'failed')") == [(0,)]
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


async def test_a_client_that_tried_to_come_back_to_a_frozen_server_keeps_its_task(
    cluster: Cluster, ledger: Ledger
) -> None:
    """Its registrations wait in the server's ears, those that it gave up and the one that it stands by."""
    server = await to_thread.run_sync(lambda: cluster.start_server(*FAST, *serverlog.JSON))
    async with dial(cluster.address) as first, dial(cluster.address) as producer:
        me = {**registration(ECHO, name="patient"), "instance": "patient"}
        await first.say(me)
        await first.expect("RegisterResponse")
        work = {"kind": ECHO, "payload": 1, "key": "k"}
        await producer.say(submission(*ledger.intend([work])))
        ledger.acknowledge([work], (await producer.expect("SubmitResponse"))["ids"])
        task = await first.expect("Task")
        server.send_signal(signal.SIGSTOP)
        await first.hang_up()
    me["resume"] = [task["assignment"]]
    for _ in range(5):
        async with dial(cluster.address) as given_up:
            await given_up.say(me)
    async with dial(cluster.address) as last:
        await last.say(me)
        server.send_signal(signal.SIGCONT)
        assert (await last.expect("RegisterResponse"))["resumed"] == [task["assignment"]]
        await last.say(ledger.send(success(task, 1)))
        ledger.hear(await last.expect("ResultResponse", status="accepted"))

    assert end(server) == 0
    assert cluster.rows("SELECT retry_count FROM tasks") == [(0,)]
    assert serverlog.events(cluster.folder, "client.died") == []
    oracle.check_at_rest(cluster.db, cluster.log, ledger)
