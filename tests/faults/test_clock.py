"""A wall clock that jumps ten years: nobody dies of it, and nothing is tried before its time."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from anyio import to_thread

from tests.acceptance.cluster import Cluster, Process, end, popen
from tests.faults import oracle, serverlog
from tests.faults.drivers import ECHO, Producer, Worker, at_work, dial, hand_in
from tests.faults.ledger import Ledger
from tests.server.live import failure, registration, success
from tests.waiting import eventually

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
TEN_YEARS = "3650d"
A_YEAR_S = 365 * 86_400
RETRY_S = 1.0
OPTIONS = (
    *("--heartbeat-interval", "200ms", "--heartbeat-timeout", "5s", "--heartbeat-check", "100ms"),
    *("--retry-backoff", f"{RETRY_S:g}s..{RETRY_S:g}s", *serverlog.JSON),
)

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="wanted libfaketime (apt-get install faketime)")


@pytest.fixture
def jumping(cluster: Cluster) -> tuple[Cluster, Callable[[str], object]]:
    """Give a cluster whose servers live by a wall clock of their own, and a way to make it jump by `+3650d`."""
    offset = cluster.folder / "offset"
    offset.write_text("+0")
    fake = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "DONT_FAKE_MONOTONIC": "1",
        # Otherwise threads that wait for the interpreter wait for seconds.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }

    def spawn(command: Sequence[str], folder: Path, log: Path) -> Process:
        return popen(["env", *(f"{name}={value}" for name, value in fake.items()), *command], folder, log)

    return Cluster(cluster.program("x").parent, cluster.folder, spawn), offset.write_text


@pytest.mark.parametrize("sign", ["+", "-"])
async def test_a_jump_of_ten_years_kills_nobody_and_hurries_nothing(
    jumping: tuple[Cluster, Callable[[str], object]], ledger: Ledger, chance: random.Random, sign: str
) -> None:
    """Forth and back again, under load: no death, no retry before its time, and none ten years late."""
    cluster, jump = jumping
    try:
        server = await to_thread.run_sync(lambda: cluster.start_server(*OPTIONS))
        workers = [Worker(cluster.address, ledger, chance, f"w{number}", failing=0) for number in range(4)]
        producer = Producer(cluster.address, ledger, chance, "p", [ECHO])
        async with at_work(*workers, producer):
            await eventually(lambda: len(ledger.accepted) > 10, within_s=30)
            async with dial(cluster.address) as loser:
                await loser.say(registration("Fails", name="loser"))
                await loser.expect("RegisterResponse")
                await hand_in(cluster.address, ledger, {"kind": "Fails", "payload": 1, "key": "fails"})
                task = await loser.expect("Task")
                await loser.say(ledger.send(failure(task)))
                ledger.hear(await loser.expect("ResultResponse", status="accepted", state="scheduled"))
                failed_s = time.monotonic()
                jump(f"{sign}{TEN_YEARS}")
                await eventually(lambda: _is_elsewhen(cluster))
                again = await loser.expect("Task")
                waited_s = time.monotonic() - failed_s
                await loser.say(ledger.send(success(again, "at last")))
                ledger.hear(await loser.expect("ResultResponse", status="accepted"))
                await loser.say({"type": "Goodbye"})
            jump("+0")
            before = len(ledger.accepted)
            await eventually(lambda: len(ledger.accepted) > before + 10, within_s=30)
            await producer.stop()
            await eventually(lambda: cluster.rows("SELECT 1 FROM tasks WHERE state <> 'completed' LIMIT 1") == [])
        assert end(server) == 0
    finally:
        cluster.kill_all()

    # Half of the pause is chance.
    assert RETRY_S / 2 - 0.1 < waited_s < RETRY_S + 5
    assert serverlog.events(cluster.folder, "client.died") == []
    oracle.check_at_rest(cluster.db, cluster.log, ledger)


def _is_elsewhen(cluster: Cluster) -> bool:
    """See that the server's wall clock has jumped: what it logs is dated years from now."""
    host, _, port = cluster.address.rpartition(":")
    socket.create_connection((host, int(port))).close()
    return any(
        abs(event["at"] - time.time()) > A_YEAR_S for event in serverlog.events(cluster.folder, "client.connect")
    )
