"""The server as a whole: how it starts, drains, ends and starts again."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from anyio import Event, create_task_group, fail_after, wait_all_tasks_blocked
from structlog.testing import capture_logs

from dtm.server.app import StopRequest, serve
from dtm.server.audit_log import LogRefused
from dtm.server.listener import CannotListen
from dtm.server.machine import this_machine
from dtm.server.settings import Settings
from dtm.storage.errors import StoreFailed, StoreHeld, StoreRefused
from tests.server.live import FAST, Live, Peer, furnish, registration, release, serving, submission, success
from tests.server.stores import locked
from tests.waiting import eventually

TIMEOUT_S = FAST.heartbeat_timeout_s


def asleep() -> StopRequest:
    """Make a stop request that nobody makes."""
    return StopRequest(Event(), Event())


# The start.


async def test_a_first_start_makes_the_store_and_the_log_and_tells_where_it_listens(tmp_path: Path) -> None:
    """Both files are their owner's alone; so is the note that lets dtm-admin in, and it goes away with the server."""
    settings = Settings(db=tmp_path / "new.db", dead_letter_log=tmp_path / "new.log", port=0)
    stop = asleep()
    with capture_logs() as events:
        async with create_task_group() as group:
            group.start_soon(serve, settings, stop, this_machine())
            (listening,) = await eventually(lambda: [e for e in events if e["event"] == "listening"])
            note = tmp_path / "new.db.server"
            holder = json.loads(note.read_text())
            modes = {
                path.name: stat.S_IMODE(path.stat().st_mode) for path in (settings.db, settings.dead_letter_log, note)
            }
            stop.drain.set()

    assert modes == {"new.db": 0o600, "new.log": 0o600, "new.db.server": 0o600}
    assert listening["address"] == f"127.0.0.1:{holder['port']}"
    assert (holder["pid"], holder["host"], len(holder["secret"])) == (os.getpid(), "127.0.0.1", 64)
    assert not note.exists()
    assert [event["state"] for event in events if event["event"] == "database"] == ["created"]
    assert events[-1]["event"] == "stopped"


async def test_ipv6_works_too(tmp_path: Path) -> None:
    """Its address stands in brackets."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with serving(tmp_path, host="::1") as live, live.dial() as peer:
        await peer.register("A")

        assert live.logged("listening")[0]["address"] == f"[::1]:{live.port}"
        assert live.logged("client.register")[0]["address"].startswith("[::1]:")


async def test_two_servers_do_not_share_a_store(live: Live) -> None:
    """The second one refuses to start, says who has it, and leaves that one's note alone."""
    asked_s = time.monotonic()
    with pytest.raises(StoreHeld, match=f"pid {os.getpid()} at 127.0.0.1:{live.port}"):
        await serve(live.settings, asleep(), this_machine())

    assert time.monotonic() - asked_s < 2
    assert live.settings.db.with_name("tasks.db.server").exists()


async def test_a_server_takes_over_at_once_when_the_other_is_gone(live: Live, tmp_path: Path) -> None:
    """Killed, it has left its note behind; the lock counts."""
    await live.kill()

    async with serving(tmp_path) as successor, successor.dial() as peer:
        await peer.register("A")


async def test_a_port_in_use_is_named_and_nothing_is_held_back(live: Live, tmp_path: Path) -> None:
    """The store is free again for the next try."""
    furnish(tmp_path)
    settings = Settings(db=tmp_path / "other.db", dead_letter_log=tmp_path / "other.log", port=live.port)
    for _ in range(2):
        with pytest.raises(CannotListen, match=f"127.0.0.1:{live.port}: the port is in use"):
            await serve(settings, asleep(), this_machine())


async def test_a_foreign_log_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    """Untouched."""
    log = tmp_path / "diary.txt"
    log.write_text("Dear diary\n")
    with pytest.raises(LogRefused, match=r"diary\.txt: is not a dead-letter log"):
        await serve(Settings(db=furnish(tmp_path), dead_letter_log=log, port=0), asleep(), this_machine())

    assert log.read_text() == "Dear diary\n"


async def test_a_foreign_database_is_refused_untouched(tmp_path: Path) -> None:
    """With the file's name and a remedy."""
    db = tmp_path / "tasks.db"
    db.write_bytes(b"not a database at all, " * 400)
    with pytest.raises(StoreRefused, match=r"tasks\.db: .*; "):
        await serve(Settings(db=db, dead_letter_log=tmp_path / "x.log", port=0), asleep(), this_machine())

    assert db.read_bytes() == b"not a database at all, " * 400


# The drain.


async def test_a_drain_is_announced_and_refuses_what_is_new(live: Live, peer: Peer, other: Peer) -> None:
    """Who holds a task may finish it; nobody gets another, nobody new gets in."""
    await peer.register("A", capacity=2)
    first, second = await peer.submit({"kind": "A"}, {"kind": "A"})
    tasks = [await peer.expect("Task"), await peer.expect("Task")]
    live.stop.drain.set()
    await peer.expect("ShuttingDown")
    await other.expect("ShuttingDown")

    await other.say(submission({"kind": "A"}, ref=3))
    await other.expect("Error", code="shutting-down", ref=3)
    await other.say(registration("A"))
    await other.expect("Error", code="shutting-down", ref=None)
    with pytest.raises(OSError, match=r"failed|refused"):
        async with live.dial():
            pass
    await peer.say(release(tasks[1]))
    await peer.expect("ResultResponse", status="accepted", state="pending")
    await peer.say(success(tasks[0], "done"))
    await peer.expect("ResultResponse", status="accepted", state="completed")
    assert await peer.hear_all() == []
    assert await other.hear_all() == []
    with fail_after(5):
        await live.ended.wait()
    assert [live.state(id) for id in (first, second)] == [("completed", 0), ("pending", 0)]


async def test_who_was_on_the_way_in_leaves_with_the_others(tmp_path: Path) -> None:
    """A registration that is committed only after the drain has begun is taken back too, and without blame."""
    async with serving(tmp_path, shutdown_timeout_s=0.0) as live, live.dial() as peer:
        await peer.register("A", name="first")
        await peer.submit({"kind": "A"})
        assignment = (await peer.expect("Task"))["assignment"]
        async with live.dial() as other:
            with locked(live.settings.db):
                await other.say(registration("A", name="first", resume=[assignment]), {"type": "PingRequest"})
                await other.expect("PingResponse")
                live.stop.drain.set()
                await other.expect("ShuttingDown")
                await wait_all_tasks_blocked()
            await live.ended.wait()

        with live.reader() as reader:
            assert reader.present_clients() == []
        assert live.state(1) == ("pending", 0)


async def test_what_does_not_finish_in_time_goes_back_without_blame(tmp_path: Path) -> None:
    """It is pending, its retries as before; so the next server gives it out at once."""
    async with serving(tmp_path, shutdown_timeout_s=0.2) as live, live.dial() as peer:
        await peer.register("A")
        (id,) = await peer.submit({"kind": "A"})
        task = await peer.expect("Task")
        live.stop.drain.set()
        await peer.expect("ShuttingDown")
        assert await peer.hear_all() == []
        await live.ended.wait()

        assert live.state(id) == ("pending", 0)
        assert [attempt.outcome for attempt in live.history(id).attempts] == ["released"]
        assert [(event["why"], event["tasks"]) for event in live.logged("client.left")] == [("drained", 1)]
    async with serving(tmp_path) as successor, successor.dial() as peer:
        again = await peer.register("A", resume=[task["assignment"]])
        assert again["lost"] == [task["assignment"]]
        await peer.expect("Task", task_id=id, retry_count=0)


async def test_a_second_word_ends_the_wait(live: Live, peer: Peer) -> None:
    """Without blame too."""
    await peer.register("A")
    (id,) = await peer.submit({"kind": "A"})
    await peer.expect("Task")
    live.stop.drain.set()
    await peer.expect("ShuttingDown")
    live.stop.now.set()
    with fail_after(5):
        await live.ended.wait()

    assert live.state(id) == ("pending", 0)


async def test_a_drain_does_not_wait_for_who_is_idle_or_gone(live: Live, peer: Peer, other: Peer) -> None:
    """Whose connection broke has the grace to come back, no more."""
    await other.register("B", capacity=5)
    await peer.register("A")
    await peer.submit({"kind": "A"})
    await peer.expect("Task")
    await peer.hang_up()
    live.stop.drain.set()

    with fail_after(5):
        await live.ended.wait()


async def test_a_drain_in_the_midst_of_submissions_loses_none(live: Live) -> None:
    """Each is either acknowledged and there, or refused."""
    acknowledged: list[int] = []

    async def produce() -> None:
        async with live.dial() as peer:
            for number in range(10_000):
                answer = await peer.ask(submission({"kind": "A"}, ref=number))
                while answer["type"] == "ShuttingDown":
                    answer = await peer.hear()
                if answer["type"] == "Error":
                    assert answer["code"] == "shutting-down"
                    return
                acknowledged.extend(answer["ids"])

    async with create_task_group() as group:
        for _ in range(4):
            group.start_soon(produce)
        await eventually(lambda: len(acknowledged) > 20)
        live.stop.drain.set()
    await live.ended.wait()

    with live.reader() as reader:
        assert {task.id for task in reader.newest_tasks(state=None, kind=None, limit=100_000)} == set(acknowledged)


# The next start.


async def test_what_was_on_its_way_to_a_worker_that_comes_back_costs_nobody_a_retry(tmp_path: Path) -> None:
    """It has nothing to name, and its old connection still looks alive; the task comes again at once."""
    async with (
        serving(tmp_path, reconnect_grace_s=60, heartbeat_timeout_s=60) as live,
        live.dial() as half_open,
        live.dial() as peer,
    ):
        await half_open.register("A", instance="p1")
        await half_open.submit({"kind": "A"})
        lost = await half_open.expect("Task")
        await peer.register("A", instance="p1")
        task = await peer.expect("Task")

        assert (task["task_id"], task["retry_count"]) == (lost["task_id"], 0)
        assert task["assignment"] != lost["assignment"]


async def test_after_a_restart_a_worker_resumes_what_it_holds(tmp_path: Path) -> None:
    """Within the heartbeat timeout, longer than the grace; a finished one can be reported too."""
    async with serving(tmp_path) as live, live.dial() as peer:
        await peer.register("A", capacity=2)
        await peer.submit({"kind": "A"}, {"kind": "A"})
        tasks = [await peer.expect("Task"), await peer.expect("Task")]
        await live.kill()
    async with serving(tmp_path) as live, live.dial() as peer:
        await anyio.sleep(TIMEOUT_S / 2)
        resume = [task["assignment"] for task in tasks]
        again = await peer.register("A", capacity=2, resume=resume)

        assert (again["resumed"], again["lost"]) == (resume, [])
        for task in tasks:
            await peer.say(success(task))
            await peer.expect("ResultResponse", status="accepted", state="completed")
        assert not live.logged("client.died")
        assert [live.state(task["task_id"]) for task in tasks] == [("completed", 0)] * 2


async def test_after_a_restart_who_does_not_come_back_is_dead(tmp_path: Path) -> None:
    """After the heartbeat timeout: the task goes to another client, and costs a retry."""
    async with serving(tmp_path) as live, live.dial() as peer:
        await peer.register("A")
        await peer.submit({"kind": "A"})
        task = await peer.expect("Task")
        await live.kill()
    async with serving(tmp_path) as live, live.dial() as peer:
        started_s = time.monotonic()
        await peer.register("A", name="other", capacity=5)
        async with create_task_group() as group:

            async def ping() -> None:
                while True:
                    await anyio.sleep(0.1)
                    await peer.say({"type": "Release", "task_id": 0, "assignment": 0})

            group.start_soon(ping)
            while (heard := await peer.hear())["type"] != "Task":
                pass
            group.cancel_scope.cancel()

        assert TIMEOUT_S - 0.1 <= time.monotonic() - started_s < TIMEOUT_S + 1
        assert (heard["task_id"], heard["retry_count"]) == (task["task_id"], 1)
        assert [event["why"] for event in live.logged("client.died")] == ["not back after a restart"]


async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    """No id and no assignment is ever given twice."""
    seen: list[tuple[int, int]] = []
    for _ in range(3):
        async with serving(tmp_path) as live, live.dial() as peer:
            await peer.register("A")
            await peer.submit({"kind": "A"})
            task = await peer.expect("Task")
            seen.append((task["task_id"], task["assignment"]))
            await peer.say(success(task))
            await peer.expect("ResultResponse")
            await live.kill()

    assert seen == sorted(set(seen))


async def test_a_delayed_task_falls_due_after_a_restart(tmp_path: Path) -> None:
    """Its time is on the disk."""
    async with serving(tmp_path) as live, live.dial() as peer:
        (id,) = await peer.submit({"kind": "A", "delay": 0.2})
        await live.kill()
    async with serving(tmp_path) as live, live.dial() as peer:
        await peer.register("A")
        await peer.expect("Task", task_id=id)


# Parts that fail.


async def test_a_store_that_fails_stops_the_server_and_answers_nobody(tmp_path: Path) -> None:
    """Whether the batch was saved is unknown: neither yes nor no is said, and the process ends at once."""
    heard = None

    async def fail() -> None:
        nonlocal heard
        async with serving(tmp_path) as live, live.dial() as peer:
            await peer.register("A")
            _rename(live.settings.db, "activity", "gone")
            await peer.say(submission({"kind": "A"}))
            heard = await peer.hear_all()

    with pytest.raises(ExceptionGroup) as failed:
        await fail()

    assert heard == []
    assert failed.group_contains(StoreFailed)
    _rename(tmp_path / "tasks.db", "gone", "activity")
    async with serving(tmp_path) as live, live.dial() as peer:
        await peer.register("A")


def _rename(db: Path, table: str, name: str) -> None:
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO {name}")
