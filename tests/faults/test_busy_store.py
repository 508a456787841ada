"""A database that another program keeps locked, and a batch with one item that the store cannot hold."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import pytest
from anyio import create_task_group, to_thread

from tests.acceptance.cluster import Cluster, Process, end
from tests.faults import oracle, serverlog
from tests.faults.drivers import ECHO, Producer, Worker, at_work, dial
from tests.faults.ledger import Ledger
from tests.server.live import registration, submission
from tests.waiting import eventually

PONG_WITHIN_S = 0.1
UNFINISHED = "SELECT 1 FROM tasks WHERE state NOT IN ('completed', 'dead') LIMIT 1"

# Another process: a lock of this one would not count against SQLite's own rules.
_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@contextmanager
def locked(cluster: Cluster) -> Iterator[None]:
    """Let another program hold the database's write lock."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(cluster.db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        yield


@asynccontextmanager
async def pinging(address: str) -> AsyncIterator[list[float]]:
    """Ping beside everything else; give the list of how long each answer took."""
    took_s: list[float] = []

    async def ping() -> None:
        async with dial(address) as wire:
            while True:
                asked_s = time.monotonic()
                await wire.say({"type": "PingRequest"})
                await wire.expect("PingResponse")
                took_s.append(time.monotonic() - asked_s)
                await anyio.sleep(0.01)

    async with create_task_group() as group:
        group.start_soon(ping)
        yield took_s
        group.cancel_scope.cancel()


async def test_a_second_of_lock_is_only_latency(cluster: Cluster, ledger: Ledger, chance: random.Random) -> None:
    """Nobody is refused and nobody dies; what came meanwhile is done right after."""
    server = await _start(cluster)
    producers, workers = _drivers(cluster, ledger, chance)
    async with at_work(*producers, *workers):
        await eventually(lambda: len(ledger.accepted) > 20)
        with locked(cluster):
            before = len(ledger.acknowledged)
            await anyio.sleep(1)
            assert len(ledger.acknowledged) <= before + 2 * len(producers) * 5  # what was on its way
        await _finish(cluster, producers)

    assert [code for producer in producers for code in producer.put_off] == []
    assert serverlog.events(cluster.folder, "store.busy") == []
    _check(cluster, server, ledger)


@pytest.mark.parametrize(
    ("lock_s", "timeout_s"), [(4.0, 1.0), pytest.param(60.0, 5.0, marks=pytest.mark.soak)], ids=["scaled", "real"]
)
async def test_a_long_lock_refuses_requests_and_loses_nothing(
    cluster: Cluster,
    ledger: Ledger,
    chance: random.Random,
    figure: Callable[[str], None],
    lock_s: float,
    timeout_s: float,
) -> None:
    """Each request gets its reason, pings their answers; results wait, and count when the lock goes. Nobody dies."""
    server = await _start(cluster, "--busy-timeout", f"{timeout_s}s")
    producers, workers = _drivers(cluster, ledger, chance)
    async with at_work(*producers, *workers), pinging(cluster.address) as took_s:
        await eventually(lambda: len(ledger.accepted) > 20)
        with locked(cluster):
            locked_s = time.monotonic()
            del took_s[:]
            await eventually(lambda: all(producer.put_off for producer in producers), within_s=timeout_s + 10)
            refused_after_s = time.monotonic() - locked_s
            await _refuses_at_once(cluster)
            await anyio.sleep(max(0.0, locked_s + lock_s - time.monotonic()))
            pongs = sorted(took_s)
        await eventually(lambda: serverlog.events(cluster.folder, "store.free"))
        before = len(ledger.accepted)
        await eventually(lambda: len(ledger.accepted) > before + 20)
        await _finish(cluster, producers)

    assert {code for producer in producers for code in producer.put_off} == {"store-busy"}
    assert cluster.rows("SELECT 1 FROM tasks WHERE kind = 'never'") == []
    # Later would mean: not those who were waiting were refused, but those who gave up and asked anew.
    assert 0.8 * timeout_s < refused_after_s < timeout_s + 5
    figure(f"locked for {lock_s:g} s: refusals after {refused_after_s:.1f} s, pings {pongs[-1] * 1000:.0f} ms at most")
    # On a machine with others at work one may be late; the server has nothing to do with that.
    assert pongs[int(len(pongs) * 0.98)] < PONG_WITHIN_S, pongs
    assert serverlog.events(cluster.folder, "client.died") == []
    _check(cluster, server, ledger)


async def test_one_bad_item_among_many_is_refused_alone(cluster: Cluster, ledger: Ledger) -> None:
    """The store cannot hold a NUL in a kind; the 49 others of its batch are taken."""
    server = await _start(cluster)
    tasks = [{"kind": ECHO, "payload": number, "key": f"k{number}"} for number in range(50)]
    tasks[30]["kind"] = "bad\0kind"
    async with dial(cluster.address) as wire:
        with locked(cluster):
            # One batch waits for the lock; all of these go into the next one.
            await wire.say(submission(*ledger.intend([{"kind": ECHO, "payload": -1, "key": "first"}]), ref=-1))
            await anyio.sleep(0.1)
            await wire.say(*(submission(*ledger.intend([task]), ref=ref) for ref, task in enumerate(tasks)))
            await anyio.sleep(0.1)
        answers = {answer["ref"]: answer for answer in [await wire.hear() for _ in range(51)]}

    refused = answers.pop(30)
    assert (refused["type"], refused["code"]) == ("Error", "refused")
    assert {answer["type"] for answer in answers.values()} == {"SubmitResponse"}
    for ref, task in enumerate(tasks):
        if ref != 30:
            ledger.acknowledge([task], answers[ref]["ids"])
    assert cluster.rows("SELECT count(*) FROM tasks") == [(50,)]
    assert cluster.rows("SELECT count(DISTINCT created_at) FROM tasks") == [(2,)], "these were no batch"
    assert end(server) == 0
    oracle.check_running(cluster.db, cluster.log, ledger)


async def _start(cluster: Cluster, *options: str) -> Process:
    options = (*options, "--retry-backoff", "10ms..20ms", *serverlog.JSON)
    return await to_thread.run_sync(lambda: cluster.start_server(*options))


def _drivers(cluster: Cluster, ledger: Ledger, chance: random.Random) -> tuple[list[Producer], list[Worker]]:
    producers = [Producer(cluster.address, ledger, chance, f"p{number}", [ECHO]) for number in range(4)]
    workers = [Worker(cluster.address, ledger, chance, f"w{number}") for number in range(4)]
    return producers, workers


async def _refuses_at_once(cluster: Cluster) -> None:
    async with dial(cluster.address) as wire:
        for message in (registration(ECHO), submission({"kind": "never"}, ref=5)):
            await wire.say(message)
            answer = await wire.expect("Error", code="store-busy", ref=message.get("ref"))
            assert "another program holds the database's write lock" in answer["message"]


async def _finish(cluster: Cluster, producers: list[Producer]) -> None:
    for producer in producers:
        await producer.stop()
    await eventually(lambda: cluster.rows(UNFINISHED) == [], within_s=60)


def _check(cluster: Cluster, server: Process, ledger: Ledger) -> None:
    assert end(server) == 0
    oracle.check_at_rest(cluster.db, cluster.log, ledger)
