"""Deaths: connections that break, clients that fall silent, and who is not to blame."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
from anyio import create_task_group, move_on_after, to_thread

from dtm.server.committer import MAX_OPEN_BYTES
from dtm.storage.schema import clients
from dtm.storage.view import AttemptRow
from tests.server.live import FAST, Live, Peer, registration, serving, submission, success
from tests.waiting import eventually
from tests.wire import Line

GRACE_S, TIMEOUT_S, CHECK_S = FAST.reconnect_grace_s, FAST.heartbeat_timeout_s, FAST.heartbeat_check_s
# What a busy machine may take on top.
SLACK_S = 1.0
PING = {"type": "PingRequest"}


async def take(peer: Peer, **task: object) -> Line:
    """Let a registered worker submit a task of its own and get it."""
    await peer.submit({"kind": "A", **task})
    return await peer.expect("Task")


@asynccontextmanager
async def pinging(*peers: Peer) -> AsyncIterator[None]:
    """Let peers ping as they were told to, and hear nothing."""

    async def ping(peer: Peer) -> None:
        while True:
            await peer.say(PING)
            await anyio.sleep(FAST.heartbeat_interval_s)

    async with create_task_group() as group:
        for peer in peers:
            group.start_soon(ping, peer)
        yield
        group.cancel_scope.cancel()


async def dead(live: Live, client_id: int) -> float:
    """Wait until the client was declared dead, and give the moment."""
    await eventually(lambda: [event for event in live.logged("client.died") if event["client"] == client_id])
    return time.monotonic()


# Connections that break.


async def test_the_task_of_a_broken_connection_is_given_out_again_after_the_grace(
    live: Live, peer: Peer, other: Peer
) -> None:
    """Not before, so that the client may come back; then at once, and it costs one retry."""
    client = (await peer.register("A"))["client_id"]
    task = await take(peer)
    await other.register("A")
    broken_s = time.monotonic()
    await peer.hang_up()

    again = await other.expect("Task", task_id=task["task_id"], retry_count=1)
    assert GRACE_S <= time.monotonic() - broken_s < GRACE_S + SLACK_S
    assert again["assignment"] != task["assignment"]
    (died,) = live.logged("client.died")
    assert (died["client"], died["why"], died["tasks"]) == (client, "connection lost", 1)
    assert [(attempt.outcome, attempt.failure and attempt.failure.summary) for attempt in _attempts(live, task)] == [
        ("died", "ClientDied: client worker: connection lost"),
        (None, None),
    ]


async def test_the_third_death_is_a_dead_letter(live: Live, other: Peer) -> None:
    """A poisoned task does not kill clients for ever: one line of the log, one word in the server's own, one notice."""
    (task_id,) = await other.submit({"kind": "A", "payload": "poison"}, notify=True)
    for retry_count in range(3):
        async with live.dial() as victim:
            await victim.register("A", name=f"victim {retry_count}")
            await victim.expect("Task", task_id=task_id, retry_count=retry_count)

    told = await other.expect("TaskFinished", task_id=task_id, state="dead")
    assert told["error"]["message"] == "client victim 2: connection lost"
    (line,) = await eventually(live.log_lines)
    expected = {"seq": 1, "event": "dead", "task": task_id, "kind": "A", "payload": '"poison"', "retry_count": 3}
    assert {name: line[name] for name in expected} == expected
    assert (line["client"], line["reason"]) == ("victim 2", "died")
    assert [event["task"] for event in live.logged("task.dead")] == [task_id]
    assert [event["retries"] for event in live.logged("task.retry")] == [1, 2]


async def test_a_client_that_comes_back_in_time_keeps_its_task(live: Live, peer: Peer, other: Peer) -> None:
    """It names the assignment, and its result counts under its new number."""
    first = await peer.register("A")
    task = await take(peer)
    await peer.hang_up()

    again = await other.register("A", resume=[task["assignment"]])
    assert again["client_id"] != first["client_id"]
    assert (again["resumed"], again["lost"]) == ([task["assignment"]], [])
    await other.submit({"kind": "A"})
    assert await other.settled() == []  # it holds as much as it can
    await other.say(success(task))
    await other.expect("ResultResponse", status="accepted", state="completed")
    assert not live.logged("client.died")
    assert [attempt.outcome for attempt in _attempts(live, task)] == ["completed"]


async def test_a_result_may_be_said_again_after_coming_back(peer: Peer, other: Peer) -> None:
    """When the answer to it was lost with the connection."""
    await peer.register("A")
    task = await take(peer)
    await peer.say(success(task, 1))
    await peer.hang_up()
    again = await other.register("A", resume=[task["assignment"]])
    await other.say(success(task, 1))

    assert again["resumed"] + again["lost"] == [task["assignment"]]
    await other.expect("ResultResponse", status="accepted", state="completed")


async def test_a_client_that_comes_back_too_late_has_lost_its_task(live: Live, peer: Peer, other: Peer) -> None:
    """It is told so, and its result is stale."""
    client = (await peer.register("A"))["client_id"]
    task = await take(peer)
    await peer.hang_up()
    await dead(live, client)

    again = await other.register("B", resume=[task["assignment"]])
    assert (again["resumed"], again["lost"]) == ([], [task["assignment"]])
    await other.say(success(task))
    await other.expect("ResultResponse", status="stale", state="pending")


async def test_nobody_takes_over_anothers_task(live: Live, peer: Peer, other: Peer) -> None:
    """Another name is another client; the owner goes on."""
    await peer.register("A", name="owner")
    task = await take(peer)

    thief = await other.register("A", name="thief", resume=[task["assignment"], 999])
    assert (thief["resumed"], thief["lost"]) == ([], [task["assignment"], 999])
    await other.say(success(task))
    await other.expect("ResultResponse", status="stale")
    await peer.say(success(task))
    await peer.expect("ResultResponse", status="accepted")
    assert not live.logged("connection.cut")


async def test_coming_back_cuts_the_connection_that_still_looks_open(live: Live, peer: Peer, other: Peer) -> None:
    """A half-open one would be given tasks that nobody runs."""
    await peer.register("A")
    task = await take(peer)
    again = await other.register("A", resume=[task["assignment"]])

    assert again["resumed"] == [task["assignment"]]
    assert await peer.hear_all() == []
    assert len(live.logged("connection.cut")) == 1
    await other.say(success(task))
    await other.expect("ResultResponse", status="accepted")
    assert not live.logged("client.died")


async def test_a_task_that_never_reached_its_client_is_given_out_again_without_blame(
    live: Live, peer: Peer, other: Peer
) -> None:
    """Whoever comes back names what it has. The rest goes back to the queue, and never to the connection it left."""
    await peer.register("A", capacity=3)
    ids = await peer.submit({"kind": "A"}, {"kind": "A"})
    reached, lost = await peer.expect("Task"), await peer.expect("Task")
    await other.register("A", capacity=2, resume=[reached["assignment"]])

    again = await other.expect("Task", task_id=lost["task_id"], retry_count=0)
    for task in (reached, again):
        await other.say(success(task))
        await other.expect("ResultResponse", status="accepted", state="completed")
    assert [live.state(id) for id in ids] == [("completed", 0)] * 2


async def test_a_client_that_left_while_registering_leaves_nothing_behind(live: Live, peer: Peer, other: Peer) -> None:
    """What it came back for goes to somebody else."""
    await peer.register("A")
    task = await take(peer)
    async with live.dial() as fleeting:
        await fleeting.say(registration("A", resume=[task["assignment"]]))
    await other.register("A")

    await other.expect("Task", task_id=task["task_id"])


# Clients that fall silent.


async def test_a_silent_client_is_declared_dead_in_time(live: Live, peer: Peer, other: Peer) -> None:
    """Between the timeout and one check later; its connection is cut, and its late result is stale."""
    client = (await peer.register("A"))["client_id"]
    await peer.submit({"kind": "A"})
    task = await peer.expect("Task")
    await peer.say(PING)
    await peer.expect("PingResponse")
    silent_s = time.monotonic()
    await other.register("A")
    async with pinging(other):
        died_s = await dead(live, client) - silent_s

    assert TIMEOUT_S - 0.02 <= died_s < TIMEOUT_S + CHECK_S + SLACK_S
    assert await peer.hear_all() == []
    assert [event["why"] for event in live.logged("client.died")] == ["silent"]
    heard = [message for message in await other.settled() if message["type"] == "Task"]
    assert [(message["task_id"], message["retry_count"]) for message in heard] == [(task["task_id"], 1)]
    async with live.dial() as late:
        await late.register("B")
        await late.say(success(task))
        await late.expect("ResultResponse", status="stale", state="assigned")


async def test_a_client_that_pings_lives(live: Live, peer: Peer) -> None:
    """However long its task takes; the store knows when it was last heard."""
    client = (await peer.register("A"))["client_id"]
    task = await take(peer)
    async with pinging(peer):
        with move_on_after(1.5 * TIMEOUT_S):
            await dead(live, client)

    assert not live.logged("client.died")
    with live.reader() as reader:
        (row,) = reader.rows(clients.select())
    assert row.last_heartbeat_at > row.connected_at
    await peer.say(success(task))
    assert "accepted" in [message.get("status") for message in await peer.settled()]


async def test_any_word_is_a_sign_of_life(live: Live, peer: Peer) -> None:
    """It need not be a ping, nor even a message."""
    await peer.register("A")
    words: list[Line] = [{"type": "Query", "ref": 1, "ids": []}, {"type": "Nonsense"}]
    for word in words * 3:
        await peer.ask(word)
        await anyio.sleep(TIMEOUT_S / 3)

    assert not live.logged("client.died")


async def test_a_client_that_reads_slowly_but_steadily_lives(live: Live, peer: Peer, other: Peer) -> None:
    """While much waits for it, its pings are not read; that is not its silence."""
    count = 20
    for _ in range(count):
        await other.submit({"kind": "A", "payload": "x" * 900_000})
    await peer.say(registration("A", capacity=count))
    async with pinging(peer):
        begun_s, tasks = time.monotonic(), 0
        while tasks < count:
            tasks += (await peer.hear_some(100_000)).count(b'"type":"Task"')
            await anyio.sleep(0.01)

    assert time.monotonic() - begun_s > 1.5 * TIMEOUT_S
    assert not live.logged("client.died")
    assert not live.logged("connection.cut")


async def test_a_producer_may_be_silent(live: Live, peer: Peer) -> None:
    """Only whoever holds tasks must show that it lives."""
    await peer.submit({"kind": "A"})
    await anyio.sleep(1.5 * TIMEOUT_S)

    await peer.submit({"kind": "A"})
    assert not live.logged("connection.cut")


# A server that does not run.


def freeze(seconds: float) -> None:
    """Stop everything in this process, the server above all, as SIGSTOP does."""
    time.sleep(seconds)


async def test_a_frozen_server_declares_nobody_dead(live: Live) -> None:
    """Time in which it did not run was no silence."""
    async with pinging_workers(live, 20):
        freeze(2.5 * TIMEOUT_S)
        with move_on_after(TIMEOUT_S):
            await eventually(lambda: live.logged("client.died"))

    assert not live.logged("client.died")


async def test_a_freeze_does_not_hide_a_death_after_it(live: Live, peer: Peer) -> None:
    """Whoever spoke just before and then fell silent is dead one timeout after the thaw."""
    client = (await peer.register("A"))["client_id"]
    await peer.say(PING)
    freeze(3 * TIMEOUT_S)
    thawed_s = time.monotonic()

    assert await dead(live, client) - thawed_s < TIMEOUT_S + CHECK_S + SLACK_S < 3 * TIMEOUT_S


async def test_a_freeze_does_not_count_against_who_is_coming_back(live: Live, peer: Peer) -> None:
    """A client that knocked while the server did not run was there in time."""
    await peer.register("A")
    task = await take(peer)
    await peer.hang_up()
    await eventually(lambda: live.logged("client.disconnect"))
    with socket.create_connection(("127.0.0.1", live.port)) as knocking:
        knocking.sendall(json.dumps(registration("A", resume=[task["assignment"]])).encode() + b"\n")
        freeze(3 * GRACE_S)
        answer = json.loads(await to_thread.run_sync(knocking.recv, 65_536))

    assert answer["resumed"] == [task["assignment"]]
    assert not live.logged("client.died")


# A store that does not answer.


@asynccontextmanager
async def locked(db: Path) -> AsyncIterator[None]:
    """Hold the database's write lock, as another program may."""
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def test_a_locked_database_is_only_latency(live: Live, peer: Peer, other: Peer) -> None:
    """Nothing is answered before it is on the disk, and pings are answered at once."""
    await peer.register("A")
    async with locked(live.settings.db):
        await other.say(submission({"kind": "A"}, ref=5))
        for _ in range(10):
            asked_s = time.monotonic()
            await peer.say(PING)
            await peer.expect("PingResponse")
            assert time.monotonic() - asked_s < 0.5
            await anyio.sleep(1.5 * TIMEOUT_S / 10)

    await other.expect("SubmitResponse", ref=5)
    await peer.expect("Task")
    assert not live.logged("client.died")


async def test_clients_that_the_server_does_not_read_are_not_silent(live: Live, peer: Peer, other: Peer) -> None:
    """With its memory full of what waits for the disk, it does not read who adds to it; that is not theirs to answer
    for. Whoever only pings is read and answered all the while."""
    await peer.register("A")
    await other.register("B", capacity=0, name="other")
    task = await take(peer)
    big = [submission({"kind": "C", "payload": "x" * 900_000}, ref=ref) for ref in range(MAX_OPEN_BYTES // 900_000 + 2)]
    async with pinging(peer):
        async with create_task_group() as saying, locked(live.settings.db):
            # One batch is on its way and waits; these fill the next one.
            await other.say(submission({"kind": "C"}, ref=1_000))
            saying.start_soon(other.say, *big)
            give_up_s = time.monotonic() + 3 * TIMEOUT_S
            pongs = 0
            while time.monotonic() < give_up_s:
                await peer.expect("PingResponse")
                pongs += 1
        async with pinging(other):
            for ref in (1_000, *range(len(big))):
                while (answer := await other.hear())["type"] != "SubmitResponse":
                    assert answer["type"] == "PingResponse"
                assert answer["ref"] == ref
            await peer.say(success(task))
            while (answer := await peer.hear())["type"] != "ResultResponse":
                pass

    assert answer["status"] == "accepted"
    assert pongs > 3 * TIMEOUT_S / FAST.heartbeat_interval_s / 2
    assert not live.logged("client.died")


@asynccontextmanager
async def pinging_workers(live: Live, count: int) -> AsyncIterator[None]:
    """Register many workers and let them ping."""
    async with create_task_group() as group:

        async def work(number: int) -> None:
            async with live.dial() as peer:
                await peer.register("A", name=f"worker {number}")
                async with pinging(peer):
                    await anyio.sleep_forever()

        for number in range(count):
            group.start_soon(work, number)
        await eventually(lambda: len(live.logged("client.register")) == count)
        yield
        group.cancel_scope.cancel()


async def test_all_that_is_told_is_figures(tmp_path: Path) -> None:
    """The log reports the store's figures now and then."""
    async with serving(tmp_path, stats_interval_s=0.05) as live, live.dial() as peer:
        await peer.register("A")
        await take(peer)
        await peer.submit({"kind": "B"})

        def figures() -> Line | None:
            reports = live.logged("statistics")
            return dict(reports[-1]) if reports and reports[-1]["pending"] else None

        report = await eventually(figures)
        expected = {"pending": 1, "assigned": 1, "completed": 0, "dead": 0, "clients": 1, "busy": 1}
        assert {name: report[name] for name in expected} == expected


def _attempts(live: Live, task: Line) -> list[AttemptRow]:
    return live.history(task["task_id"]).attempts
