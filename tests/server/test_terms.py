"""What a submitter may ask for besides a run, over the wire: timeouts, expiry, cancelling, progress, uniqueness."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import create_task_group

from dtm.server import monitor
from dtm.server.lastwords import MOST, PAUSE_S
from dtm.server.roster import Member
from dtm.storage.batch import NewTask, Progress, Registration, Submission
from tests.server.live import Live, Peer, failure, release, serving, submission, success
from tests.server.stores import Silence, hub_on, settle
from tests.waiting import eventually
from tests.wire import Line

# Far longer than the test takes; what comes within it came by its own time.
LONG_S = 60.0


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    """A server that takes nobody for dead who is silent for a while."""
    async with serving(tmp_path, heartbeat_timeout_s=LONG_S) as live:
        yield live


async def take(peer: Peer, **task: Any) -> Line:
    """Let a registered worker submit a task of its own and get it."""
    await peer.submit({"kind": "A", **task})
    return await peer.expect("Task")


async def heard(peer: Peer, kind: str, **fields: Any) -> Line:
    """Give the next message of a kind; what comes in between is passed over."""
    while (message := await peer.hear())["type"] != kind:
        pass
    assert {name: message[name] for name in fields} == fields, message
    return message


def cancellation(*ids: int) -> Line:
    """Write a `CancelRequest`."""
    return {"type": "CancelRequest", "ref": 5, "ids": ids}


def progress(task: Line, **said: Any) -> Line:
    """Write the `Progress` of a task."""
    return {"type": "Progress", "task_id": task["task_id"], "assignment": task["assignment"], **said}


# Timeouts.


async def test_a_task_that_takes_too_long_is_ended_by_the_server(live: Live, peer: Peer) -> None:
    """Its worker is told, its result is stale, and its place is free once it has answered."""
    await peer.register("A")
    task = await take(peer, timeout=0.1, retry={"delay": 0})
    stop = await heard(peer, "Cancel", task_id=task["task_id"], assignment=task["assignment"], reason="timeout")
    await eventually(lambda: live.state(task["task_id"]) == ("pending", 1))
    await peer.say(success(task))
    await heard(peer, "ResultResponse", status="stale", assignment=stop["assignment"])
    again = await heard(peer, "Task", task_id=task["task_id"], retry_count=1)

    attempts = live.history(task["task_id"]).attempts
    assert again["assignment"] != task["assignment"]
    assert attempts[0].outcome == "timed out"
    assert attempts[0].failure is not None
    assert attempts[0].failure.type == "TimeoutError"


async def test_a_timeout_is_no_death(live: Live, peer: Peer) -> None:
    """The worker is alive and stays so; its other tasks go on."""
    await peer.register("A", capacity=2)
    await take(peer, timeout=0.1, max_retries=1)
    other = await take(peer)
    await heard(peer, "Cancel", reason="timeout")
    await peer.say(success(other))
    await heard(peer, "ResultResponse", status="accepted", state="completed")

    assert live.logged("client.died") == []


async def test_a_server_that_was_away_ends_nothing_before_its_clients_could_come_back(tmp_path: Path) -> None:
    """The result was there in time, and only the server was not."""
    async with serving(tmp_path) as live, live.dial() as peer:
        await peer.register("A", name="w")
        task = await take(peer, timeout=0.3, max_retries=1)
        await live.kill()
    await anyio.sleep(0.4)
    async with serving(tmp_path, heartbeat_timeout_s=LONG_S) as live, live.dial() as peer:
        # A moment in which it could have been ended: the dispatch looks every 20 ms.
        await anyio.sleep(0.1)
        answer = await peer.register("A", name="w", resume=[task["assignment"]])
        await peer.say(success(task))
        await peer.expect("ResultResponse", status="accepted", state="completed")

    assert answer["resumed"] == [task["assignment"]]


async def test_a_server_that_stood_still_gives_the_time_back(tmp_path: Path) -> None:
    """As long as it stood still, nothing is overdue: a result may have waited for it all that time."""
    async with hub_on(tmp_path) as hub, create_task_group() as group:
        group.start_soon(monitor.watch, hub, lambda: None)
        hub.committer.register(Registration("w", "nowhere", ("A",), 1), lambda _: None)
        hub.committer.submit(Submission((NewTask("A", "1", timeout=1),)), lambda _: None)
        hub.roster.join(Member(1, "w", Silence(), kinds=frozenset("A"), capacity=1), hub.clock.monotonic_s())
        await settle(hub)
        overdue_at = hub.committer.next_due_at
        await anyio.sleep(0.1)
        before = hub.committer.next_due_at
        time.sleep(1.5)  # noqa: ASYNC251  that is the standstill
        await eventually(lambda: hub.committer.next_due_at != overdue_at)
        now = hub.clock.now()
        spared_until = hub.committer.next_due_at
        group.cancel_scope.cancel()

    assert before == overdue_at
    assert spared_until is not None
    assert spared_until > now


async def test_a_client_that_does_not_come_back_in_time_has_timed_out_or_died(tmp_path: Path) -> None:
    """The patience has an end, and costs one retry."""
    async with serving(tmp_path) as live, live.dial() as peer:
        await peer.register("A", name="w")
        task = await take(peer, timeout=0.1)
        await live.kill()
    async with serving(tmp_path) as live:
        await eventually(lambda: live.state(task["task_id"])[1] == 1)


# Expiry.


async def test_a_task_that_nobody_began_in_time_is_told_as_expired(live: Live, peer: Peer) -> None:
    """Without any client, by time alone."""
    (id,) = await peer.submit({"kind": "A", "expires": 0.1}, notify=True)

    assert await peer.expect("TaskFinished", task_id=id) == {"type": "TaskFinished", "task_id": id, "state": "expired"}
    assert live.state(id) == ("expired", 0)


@pytest.mark.parametrize("task", [{"expires": 0}, {"expires_at": 1}])
async def test_a_task_that_comes_too_late_never_runs(peer: Peer, task: Line) -> None:
    """Although a worker is free."""
    await peer.register("A")
    (id,) = await peer.submit({"kind": "A", **task}, notify=True)

    await peer.expect("TaskFinished", task_id=id, state="expired")


async def test_two_expiries_are_refused(peer: Peer) -> None:
    """One instant is meant; which one, nobody can know."""
    answer = await peer.ask(submission({"kind": "A", "expires": 5, "expires_at": 5}))

    assert (answer["code"], answer["message"]) == ("bad-message", "wanted expires or expires_at, found both")


# Cancelling.


async def test_a_waiting_task_is_cancelled_at_once(live: Live, peer: Peer, other: Peer) -> None:
    """Whoever waits for it hears so; the answer comes after the commit."""
    first, second = await peer.submit({"kind": "A"}, {"kind": "A", "delay": LONG_S}, notify=True)
    answer = await other.ask(cancellation(second, 999, first))

    assert answer == {"type": "CancelResponse", "ref": 5, "states": ["cancelled", None, "cancelled"]}
    assert {(await peer.expect("TaskFinished", state="cancelled"))["task_id"] for _ in range(2)} == {first, second}
    assert live.state(first) == ("cancelled", 0)
    assert [event["tasks"] for event in live.logged("task.cancelled")] == [2]


async def test_a_running_task_is_asked_to_stop(live: Live, peer: Peer, other: Peer) -> None:
    """Its worker hears it, and what it answers ends the task."""
    await peer.register("A")
    task = await take(peer)
    answer = await other.ask(cancellation(task["task_id"]))
    stop = await peer.expect("Cancel")
    (status,) = await other.query(task["task_id"], notify=True)
    await peer.say(failure(task, "stopped"))

    assert answer["states"] == ["assigned"]
    assert stop == {"type": "Cancel", "task_id": 1, "assignment": task["assignment"], "reason": "cancelled"}
    assert status is not None
    assert (status["state"], status["cancel_requested"]) == ("assigned", True)
    await peer.expect("ResultResponse", status="accepted", state="cancelled")
    await other.expect("TaskFinished", task_id=1, state="cancelled")
    assert live.state(1) == ("cancelled", 0)


async def test_a_racing_success_wins(peer: Peer, other: Peer) -> None:
    """It is reported as such."""
    await peer.register("A")
    task = await take(peer)
    await other.ask(cancellation(task["task_id"]))
    await peer.say(success(task, 3))

    await peer.expect("Cancel")
    await peer.expect("ResultResponse", status="accepted", state="completed")
    assert (await other.ask(cancellation(task["task_id"])))["states"] == ["completed"]


async def test_a_worker_that_was_away_hears_it_when_it_comes_back(live: Live, peer: Peer, other: Peer) -> None:
    """With the assignment that it resumes."""
    await peer.register("A", name="w")
    task = await take(peer)
    await peer.hang_up()
    await eventually(lambda: live.logged("client.disconnect"))
    answer = await other.ask(cancellation(task["task_id"]))
    await other.register("A", name="w", resume=[task["assignment"]])

    assert answer["states"] == ["assigned"]
    await other.expect("Cancel", assignment=task["assignment"], reason="cancelled")


async def test_a_cancellation_outlives_the_server(tmp_path: Path) -> None:
    """What was acknowledged is on disk: what waited stays cancelled, and who runs the other hears it after all."""
    async with serving(tmp_path) as live, live.dial() as peer, live.dial() as other:
        await peer.register("A", name="w")
        task = await take(peer)
        (waiting,) = await other.submit({"kind": "B"})
        answer = await other.ask(cancellation(task["task_id"], waiting))
        await live.kill()
    async with serving(tmp_path, heartbeat_timeout_s=LONG_S) as live, live.dial() as peer:
        state = live.state(waiting)
        await peer.register("A", "B", name="w", resume=[task["assignment"]], capacity=5)
        await peer.expect("Cancel", assignment=task["assignment"], reason="cancelled")
        await peer.say(failure(task, "stopped"))
        await peer.expect("ResultResponse", status="accepted", state="cancelled")

    assert answer["states"] == ["assigned", "cancelled"]
    assert state == ("cancelled", 0)


async def test_what_expired_while_the_server_was_away_never_runs(tmp_path: Path) -> None:
    """And whoever asks afterwards is told."""
    async with serving(tmp_path) as live, live.dial() as peer:
        (id,) = await peer.submit({"kind": "A", "expires": 0.2})
        await live.kill()
    await anyio.sleep(0.3)
    async with serving(tmp_path) as live, live.dial() as peer:
        await peer.register("A")
        await eventually(lambda: live.state(id) == ("expired", 0))
        (status,) = await peer.query(id)

    assert status is not None
    assert status["state"] == "expired"


async def test_a_worker_that_goes_ends_what_it_was_to_stop(live: Live, peer: Peer, other: Peer) -> None:
    """Nobody else gets it."""
    await peer.register("A")
    task = await take(peer)
    await other.ask(cancellation(task["task_id"]))
    await peer.hang_up()
    await eventually(lambda: live.state(task["task_id"]) == ("cancelled", 0))


# Progress and updates.


async def test_whoever_follows_a_task_hears_how_it_goes(peer: Peer, other: Peer) -> None:
    """From its assignment to its end, and each message tells how the task stands by then."""
    await peer.register("A")
    answer = await other.ask({**submission({"kind": "A", "retry": {"delay": 0.05, "jitter": 0}}), "updates": True})
    (id,) = answer["ids"]
    update = {"type": "TaskUpdate", "task_id": id, "fraction": None, "note": "", "next_run_at": None}

    task = await peer.expect("Task")
    assert await other.expect("TaskUpdate") == {**update, "state": "assigned", "retry_count": 0}
    await peer.say(progress(task, fraction=0.5, note="half"))
    assert await other.expect("TaskUpdate") == {
        **update,
        "state": "assigned",
        "retry_count": 0,
        "fraction": 0.5,
        "note": "half",
    }
    (status,) = await other.query(id)
    assert status is not None
    assert (status["fraction"], status["note"]) == (0.5, "half")
    await peer.say(failure(task))
    retried = await other.expect("TaskUpdate", state="scheduled", retry_count=1)
    assert abs(retried["next_run_at"] - time.time()) < LONG_S
    task = await heard(peer, "Task", retry_count=1)
    await other.expect("TaskUpdate", state="assigned", retry_count=1)
    await peer.say({**release(task), "delay": 0.05})
    await other.expect("TaskUpdate", state="scheduled", retry_count=1)
    task = await heard(peer, "Task", retry_count=1)
    await other.expect("TaskUpdate", state="assigned", retry_count=1)
    await other.ask(cancellation(id))
    await heard(peer, "Cancel")
    asked = {**update, "state": "assigned", "retry_count": 1, "cancel_requested": True}
    assert await other.expect("TaskUpdate") == asked
    await peer.say(progress(task, fraction=0.9, note="cleaning up"))
    assert await other.expect("TaskUpdate") == {**asked, "fraction": 0.9, "note": "cleaning up"}
    await peer.say(success(task, 3))
    await other.expect("TaskFinished", task_id=id, state="completed", value=3)


async def test_whoever_only_waits_hears_of_the_end_alone(peer: Peer, other: Peer) -> None:
    """Updates come to those who asked for them."""
    await peer.register("A")
    (id,) = await other.submit({"kind": "A"}, notify=True)
    task = await peer.expect("Task")
    await peer.say(progress(task, fraction=0.5))
    await peer.say(success(task))

    await other.expect("TaskFinished", task_id=id)


async def test_the_last_word_before_the_result_is_kept(live: Live, peer: Peer) -> None:
    """However soon after another one; of several only the last is written down."""
    await peer.register("A")
    task = await take(peer)
    await peer.say(progress(task, note="early"))
    await eventually(lambda: live.history(task["task_id"]).task.progress is not None)
    for step in range(1, 100):
        await peer.say(progress(task, fraction=step / 100, note=f"step {step}\0"))
    await peer.say(success(task))
    await heard(peer, "ResultResponse")

    found = live.history(task["task_id"]).task.progress
    assert found is not None
    assert (found.fraction, found.note) == (0.99, "step 99\\0")


async def test_a_flood_of_progress_goes_to_the_disk_in_parts(tmp_path: Path) -> None:
    """No commit is held up by what thousands of tasks have to say; who has waited longest comes first."""
    async with hub_on(tmp_path) as hub:
        for number in range(MOST + 5):
            hub.committer.note_progress(number, number, Progress(0.1))
        hub.committer.note_progress(0, 0, Progress(0.2))
        first = hub.committer._swap().batch.progress
        at_once = hub.committer._swap().batch.progress
        await anyio.sleep(PAUSE_S)
        second = hub.committer._swap().batch.progress

    assert (len(first), first[0, 0], len(at_once)) == (MOST, Progress(0.2), 0)
    assert list(second) == [(number, number) for number in range(MOST, MOST + 5)]


async def test_progress_reaches_the_store_although_nothing_else_happens(live: Live, peer: Peer) -> None:
    """A task that runs for an hour shows how far it is."""
    await peer.register("A")
    task = await take(peer)
    await peer.say(progress(task, note="early"))
    await peer.say(progress(task, note="late"))
    await eventually(lambda: getattr(live.history(task["task_id"]).task.progress, "note", "") == "late")


async def test_the_word_on_what_one_does_not_hold_is_dropped(live: Live, peer: Peer, other: Peer) -> None:
    """Another's task, or one that was never given out; before the registration it is refused."""
    await peer.register("A")
    task = await take(peer)
    await other.say(progress(task, note="forged"))
    refusal = await other.hear()
    await other.register("B")
    await other.say(progress(task, note="forged"))
    await other.say(progress({"task_id": 99, "assignment": 99}))
    await other.settled()
    await peer.say(success(task))
    await heard(peer, "ResultResponse", status="accepted")

    assert refusal["code"] == "not-registered"
    assert live.history(task["task_id"]).task.progress is None


# Retries and uniqueness.


async def test_the_policy_travels_with_the_task(live: Live, peer: Peer) -> None:
    """What is left out is left to the server; a failure of a type that is not worth a try is the last."""
    await peer.register("A")
    task = await take(peer, retry={"backoff": "constant", "delay": 5, "no_retry_for": ["LookupError"]})
    error = {"type": "KeyError", "bases": ["LookupError"]}
    await peer.say({**failure(task), "error": error})

    await peer.expect("ResultResponse", state="dead")
    assert live.history(1).task.retry == '{"backoff":"constant","delay":5.0,"no_retry_for":["LookupError"]}'


async def test_a_worker_may_say_when_to_try_again(live: Live, peer: Peer) -> None:
    """In seconds from now."""
    await peer.register("A")
    task = await take(peer)
    await peer.say({**failure(task), "after": LONG_S})
    await peer.expect("ResultResponse", state="scheduled")
    (status,) = await peer.query(task["task_id"])

    assert status is not None
    assert 0 < status["run_at"] - time.time() <= LONG_S
    assert live.state(1) == ("scheduled", 1)


async def test_a_second_of_a_unique_task_is_the_first(peer: Peer) -> None:
    """Until that has ended."""
    await peer.register("A")
    task = await take(peer, unique="u")
    second = await peer.ask(submission({"kind": "A", "payload": 2, "unique": "u"}))
    await peer.say(success(task))
    await peer.expect("ResultResponse")
    third = await peer.ask(submission({"kind": "A", "payload": 2, "unique": "u"}))

    assert (second["ids"], second["duplicates"]) == ([1], [1])
    assert (third["ids"], third["duplicates"]) == ([2], [])
