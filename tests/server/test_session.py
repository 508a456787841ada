"""Conversations over the wire: a worker's, a producer's, and both at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dtm.storage.schema import clients
from tests.server.live import Live, Peer, failure, registration, release, serving, submission, success
from tests.waiting import eventually
from tests.wire import Line

NOBODYS = {"task_id": 999, "assignment": 999}


async def take(peer: Peer, kind: str = "A", **task: Any) -> Line:
    """Let a registered worker submit a task of its own and get it."""
    await peer.submit({"kind": kind, **task})
    return await peer.expect("Task")


# A worker's part.


async def test_a_registration_is_answered_with_what_a_worker_needs(peer: Peer) -> None:
    """A number of its own, the protocol, and the rhythm of the pings, in seconds."""
    answer = await peer.register("A", "B", capacity=3)

    assert answer.pop("client_id") > 0
    assert answer.pop("server").startswith("dtm ")
    assert (len(answer.pop("store")), answer.pop("epoch")) == (32, 1)
    assert answer == {
        "type": "RegisterResponse",
        "protocol": 1,
        "heartbeat_interval": 0.2,
        "heartbeat_timeout": 0.6,
        "resumed": [],
        "lost": [],
        "max_value": 983_040,
    }


async def test_a_task_travels_whole(peer: Peer) -> None:
    """Kind, payload and timeout arrive as they were submitted, and the assignment has a number of its own."""
    payload = {"text": 'ä€😀\\ "\n\0', "number": 12345678901234567890123, "nothing": None, "list": [1.5, [], {}]}
    await peer.register("Ä kind", "Plain", capacity=2)
    ids = await peer.submit({"kind": "Ä kind", "payload": payload, "timeout": 1.5}, {"kind": "Plain"})

    first, second = await peer.expect("Task"), await peer.expect("Task")
    assert first.pop("assignment") != second.pop("assignment")
    assert [first, second] == [
        {
            "type": "Task",
            "task_id": ids[0],
            "kind": "Ä kind",
            "payload": payload,
            "retry_count": 0,
            "timeout": 1.5,
        },
        {"type": "Task", "task_id": ids[1], "kind": "Plain", "payload": None, "retry_count": 0, "timeout": None},
    ]


@pytest.mark.parametrize("value", [None, True, 0, "", "a\0b", {"a": ["\\u0000", 1e300]}, 2**100])
async def test_a_value_comes_back_whole(peer: Peer, value: Any) -> None:
    """Whatever JSON a result is."""
    await peer.register("A")
    task = await take(peer)
    await peer.say(success(task, value))
    await peer.expect("ResultResponse", status="accepted", state="completed", task_id=task["task_id"])

    (status,) = await peer.query(task["task_id"])
    assert status is not None
    assert status["value"] == value


async def test_a_worker_holds_no_more_than_its_capacity(peer: Peer) -> None:
    """Each result makes room for one more."""
    await peer.register("A", capacity=2)
    await peer.submit(*[{"kind": "A"}] * 5)

    held = await peer.settled()
    assert [message["type"] for message in held] == ["Task", "Task"]
    await peer.say(success(held[0]))
    assert [message["type"] for message in await peer.settled()] == ["ResultResponse", "Task"]


@pytest.mark.parametrize("say", [success, failure, release])
async def test_every_kind_of_answer_makes_room(peer: Peer, say: Any) -> None:
    """Accepted, and stale too, when the task has gone to somebody else."""
    await peer.register("A", capacity=1)
    first = await take(peer)
    await peer.submit({"kind": "A", "priority": 9})
    await peer.say(say(first))
    await peer.expect("ResultResponse", status="accepted", assignment=first["assignment"])

    second = await peer.expect("Task")
    assert second["task_id"] != first["task_id"]


async def test_a_stale_result_changes_nothing_and_is_said_to(peer: Peer, other: Peer) -> None:
    """Forged, another client's, another task's, or of an attempt that was given back: the state is told anyway."""
    await peer.register("A", name="one")
    await other.register("B", name="two")
    task = await take(peer)
    await other.submit({"kind": "B"})
    others = await other.expect("Task")

    assert (await peer.ask(success(NOBODYS)))["state"] is None
    await peer.say(success(others), success({**task, "task_id": others["task_id"]}))
    for _ in range(2):
        await peer.expect("ResultResponse", status="stale", state="assigned")
    await peer.say(release(task))
    await peer.expect("ResultResponse", status="accepted", state="pending")
    again = await peer.expect("Task", task_id=task["task_id"])
    await peer.say(success(task))
    await peer.expect("ResultResponse", status="stale", assignment=task["assignment"], state="assigned")
    await peer.say(success(again))
    await peer.expect("ResultResponse", status="accepted", assignment=again["assignment"], state="completed")


async def test_the_same_result_twice_is_accepted_twice_and_counted_once(live: Live, peer: Peer) -> None:
    """A worker that did not hear the answer may say it again: at once, or later, but not with another verdict."""
    await peer.register("A")
    task = await take(peer)
    await peer.say(success(task, 1), success(task, 1))
    await peer.say(success(task, 1), failure(task))

    for status in ("accepted", "accepted", "accepted", "stale"):
        await peer.expect("ResultResponse", status=status, state="completed")
    assert [attempt.outcome for attempt in live.history(task["task_id"]).attempts] == ["completed"]


async def test_a_failure_is_tried_again_and_the_third_is_a_dead_letter(live: Live, peer: Peer) -> None:
    """Each attempt has its number; the log tells each retry, and of the death once."""
    await peer.register("A")
    task = await take(peer)
    for retry_count, state in ((0, "scheduled"), (1, "scheduled"), (2, "dead")):
        assert (task["type"], task["retry_count"]) == ("Task", retry_count)
        await peer.say(failure(task, f"boom {retry_count}"))
        await peer.expect("ResultResponse", status="accepted", state=state)
        if state != "dead":
            task = await peer.hear()

    assert await peer.settled() == []
    (status,) = await peer.query(task["task_id"])
    assert status == {
        "task_id": task["task_id"],
        "kind": "A",
        "state": "dead",
        "retry_count": 3,
        "max_retries": 3,
        "error": {"type": "ValueError", "message": "boom 2", "traceback": ""},
    }
    assert [event["retries"] for event in live.logged("task.retry")] == [1, 2]
    assert [event["error"] for event in live.logged("task.dead")] == ["ValueError: boom 2"]
    (line,) = await eventually(live.log_lines)
    assert (line["event"], line["task"], line["retry_count"]) == ("dead", task["task_id"], 3)


@pytest.mark.parametrize(
    ("task", "say", "failures"),
    [
        ({"max_retries": 1}, failure, 1),
        ({"max_retries": 2}, failure, 2),
        ({}, lambda task: failure(task, retry=False), 1),
        ({}, lambda task: {**failure(task), "error": None}, 3),
        ({}, lambda task: failure(task, "NUL \0 and more"), 3),
    ],
    ids=["one-try", "two-tries", "rejected", "no-reason", "nul"],
)
async def test_how_often_a_task_is_tried(peer: Peer, task: Line, say: Any, failures: int) -> None:
    """Its own bound counts, and the worker's word that another try is in vain."""
    await peer.register("A")
    await peer.submit({"kind": "A", **task})
    states = []
    for _ in range(failures):
        await peer.say(say(await peer.expect("Task")))
        states.append((await peer.expect("ResultResponse", status="accepted"))["state"])

    assert states == ["scheduled"] * (failures - 1) + ["dead"]


async def test_a_release_blames_nobody(live: Live, peer: Peer) -> None:
    """The task comes again, as another attempt, its count as before."""
    await peer.register("A")
    task = await take(peer)
    await peer.say(release(task))
    await peer.expect("ResultResponse", status="accepted", state="pending")

    again = await peer.expect("Task", task_id=task["task_id"], retry_count=0)
    assert again["assignment"] > task["assignment"]
    assert [attempt.outcome for attempt in live.history(task["task_id"]).attempts] == ["released", None]


async def test_goodbye_gives_everything_back_without_blame(live: Live, peer: Peer, other: Peer) -> None:
    """At once, to whoever has room; the connection closes."""
    await peer.register("A", capacity=2)
    ids = await peer.submit({"kind": "A"}, {"kind": "A"})
    await peer.settled()
    await peer.say({"type": "Goodbye"})

    assert await peer.hear_all() == []
    await other.register("A", capacity=2)
    tasks = [await other.expect("Task", retry_count=0) for _ in ids]
    assert [task["task_id"] for task in tasks] == ids
    assert [(event["why"], event["tasks"]) for event in live.logged("client.left")] == [("goodbye", 2)]


async def test_a_result_said_before_goodbye_counts(peer: Peer) -> None:
    """And is answered before the connection closes."""
    await peer.register("A")
    task = await take(peer)
    await peer.say(success(task), {"type": "Goodbye"})

    (answer,) = await peer.hear_all()
    assert (answer["status"], answer["state"]) == ("accepted", "completed")


async def test_capacity_zero_stops_tasks_and_more_lets_them_come(peer: Peer) -> None:
    """What is held stays."""
    await peer.register("A")
    task = await take(peer)
    await peer.submit({"kind": "A"}, {"kind": "A"})
    await peer.say({"type": "Capacity", "capacity": 0}, success(task))
    await peer.expect("ResultResponse", status="accepted")
    assert await peer.settled() == []

    await peer.say({"type": "Capacity", "capacity": 2})
    assert [message["type"] for message in await peer.settled()] == ["Task", "Task"]


async def test_of_many_capacities_the_last_one_counts(live: Live, peer: Peer) -> None:
    """Also if they come so fast that one commit carries them all."""
    await peer.register("A", capacity=0)
    await peer.submit(*[{"kind": "A"}] * 5)
    await peer.say(*[{"type": "Capacity", "capacity": capacity} for capacity in (0, 5, 0, 3)])

    assert [message["type"] for message in await peer.settled()] == ["Task"] * 3
    with live.reader() as reader:
        assert [row.capacity for row in reader.rows(clients.select())] == [3]


async def test_registering_again_changes_kinds_and_capacity(peer: Peer, other: Peer) -> None:
    """On the same connection it is the same client, and it keeps what it holds."""
    first = await peer.register("A")
    task = await take(peer)
    ids = await other.submit({"kind": "A"}, {"kind": "B"}, {"kind": "B"})
    again = await peer.register("B", "\0", capacity=2, resume=[task["assignment"], 999])

    assert (again["client_id"], again["resumed"], again["lost"]) == (first["client_id"], [task["assignment"]], [999])
    assert [message["task_id"] for message in await peer.settled()] == [ids[1]]


async def test_a_second_registration_waits_for_the_answer_to_the_first(peer: Peer) -> None:
    """Two at once would be two clients on one connection."""
    await peer.say(registration("A"), registration("B"))

    await peer.expect("Error", code="bad-message")
    await peer.expect("RegisterResponse")


async def test_only_its_own_kinds_come_to_a_worker(peer: Peer, other: Peer) -> None:
    """What nobody runs stays pending."""
    await peer.register("A", "C", capacity=9)
    ids = await other.submit({"kind": "A"}, {"kind": "B"}, {"kind": "C"}, {"kind": "a"})

    assert [message["task_id"] for message in await peer.settled()] == [ids[0], ids[2]]
    assert [task and task["state"] for task in await other.query(ids[1], ids[3])] == ["pending", "pending"]


async def test_the_highest_priority_goes_first_and_then_the_oldest(peer: Peer, other: Peer) -> None:
    """Across kinds."""
    ids = await other.submit(
        {"kind": "A"},
        {"kind": "B", "priority": 1},
        {"kind": "A", "priority": 2_147_483_647},
        {"kind": "B", "priority": -2_147_483_648},
        {"kind": "A", "priority": 1},
        {"kind": "B"},
    )
    await peer.register("A", "B", capacity=6)

    order = [message["task_id"] for message in await peer.settled()]
    assert order == [ids[number] for number in (2, 1, 4, 0, 5, 3)]


# A producer's part.


async def test_a_key_gives_one_task(peer: Peer, other: Peer) -> None:
    """Whoever submits it, however often, in one submission or in several at once; the ids say which were known."""
    task = {"kind": "A", "key": "k", "payload": {"a": 1}}
    await peer.say(submission(task, {"kind": "A"}, task, ref=1), submission(task, ref=2))
    first = await peer.expect("SubmitResponse", ref=1)
    one, two, three = first["ids"]
    assert one == three != two
    assert first["duplicates"] == [one]
    await peer.expect("SubmitResponse", ref=2, ids=[one], duplicates=[one])

    await other.say(submission({**task, "payload": {"a": 1}, "priority": 5}, {"kind": "A", "key": "j"}))
    answer = await other.expect("SubmitResponse", duplicates=[one])
    assert answer["ids"] == [one, two + 1]


@pytest.mark.parametrize("change", [{"payload": 2}, {"kind": "B"}, {"payload": None}])
async def test_a_key_with_another_task_is_refused_whole(peer: Peer, change: Line) -> None:
    """Nothing of such a submission is taken, and its neighbours are."""
    task = {"kind": "A", "key": "k", "payload": 1}
    (known,) = await peer.submit(task)
    conflict = {**task, **change}
    await peer.say(
        submission({"kind": "A"}, ref=2),
        submission({"kind": "A", "key": "new"}, conflict, ref=3),
        submission({"kind": "A"}, ref=4),
    )

    await peer.expect("SubmitResponse", ref=2, ids=[known + 1])
    refusal = await peer.expect("Error", ref=3, code="key-conflict")
    assert f"'k' already belongs to task {known}" in refusal["message"]
    await peer.expect("SubmitResponse", ref=4, ids=[known + 2])


async def test_a_bad_task_among_good_ones_is_refused_alone(peer: Peer) -> None:
    """What the codec lets through and the store cannot hold fails its own submission, not the 49 beside it."""
    await peer.say(
        *[submission({"kind": "A", "key": f"k{ref}" if ref != 25 else "NUL\0"}, ref=ref) for ref in range(50)]
    )

    answers = {message["ref"]: message for message in [await peer.hear() for _ in range(50)]}
    assert answers.pop(25)["code"] == "refused"
    assert {message["type"] for message in answers.values()} == {"SubmitResponse"}


async def test_a_worker_may_call_itself_and_its_kinds_what_it_likes(peer: Peer) -> None:
    """They are text, nothing more: no name stops the server."""
    await peer.register("A\0", "'; DROP TABLE tasks; --", "\u2028\x1b[31m", name="NUL \0 and\r\nmore", capacity=2)
    ids = await peer.submit({"kind": "\u2028\x1b[31m"}, {"kind": "'; DROP TABLE tasks; --"})

    assert [message["task_id"] for message in await peer.settled()] == ids


async def test_a_delayed_task_waits_until_it_falls_due(peer: Peer) -> None:
    """It comes by itself, not before its time and soon after."""
    await peer.register("A", capacity=3)
    ids = await peer.submit({"kind": "A", "delay": 0.15}, {"kind": "A", "delay": 0}, {"kind": "A", "run_at": 1})

    early = [await peer.expect("Task"), await peer.expect("Task")]
    assert [task["task_id"] for task in early] == ids[1:]
    (waiting,) = await peer.query(ids[0])
    assert waiting is not None
    assert waiting["state"] == "scheduled"
    await peer.expect("Task", task_id=ids[0])


async def test_run_at_is_an_instant(peer: Peer) -> None:
    """One in the far future is scheduled."""
    (id,) = await peer.submit({"kind": "A", "run_at": 4_000_000_000.5})

    (task,) = await peer.query(id)
    assert task is not None
    assert task["state"] == "scheduled"


@pytest.mark.parametrize("outcome", ["completed", "dead"])
async def test_who_asked_to_be_notified_hears_each_end_once(peer: Peer, other: Peer, outcome: str) -> None:
    """With the value or the reason; whoever did not ask hears nothing."""
    await peer.register("A", capacity=2)
    first, second = await other.submit({"kind": "A", "max_retries": 1}, {"kind": "A", "max_retries": 1}, notify=True)
    tasks = {task["task_id"]: task for task in [await peer.hear(), await peer.hear()]}
    for id in (second, first):
        await peer.say(success(tasks[id], [id]) if outcome == "completed" else failure(tasks[id], str(id)))

    told = [await other.hear(), await other.hear()]
    assert [(line["type"], line["task_id"], line["state"]) for line in told] == [
        ("TaskFinished", second, outcome),
        ("TaskFinished", first, outcome),
    ]
    if outcome == "completed":
        assert [line["value"] for line in told] == [[second], [first]]
    else:
        assert [line["error"]["message"] for line in told] == [str(second), str(first)]
    assert await other.settled() == []
    assert {message["type"] for message in await peer.settled()} == {"ResultResponse"}


async def test_a_known_key_that_has_ended_is_told_at_once(peer: Peer, other: Peer) -> None:
    """And one that has not ended, when it does: both to everybody who asked."""
    await peer.register("A", capacity=2)
    ended, running = await peer.submit({"kind": "A", "key": "ended"}, {"kind": "A", "key": "running"}, notify=True)
    tasks = [await peer.expect("Task"), await peer.expect("Task")]
    await peer.say(success(tasks[0], "done"))
    await peer.expect("ResultResponse")
    await peer.expect("TaskFinished", task_id=ended)

    await other.submit({"kind": "A", "key": "ended"}, {"kind": "A", "key": "running"}, notify=True)
    await other.expect("TaskFinished", task_id=ended, state="completed", value="done")
    await peer.say(success(tasks[1]))
    await other.expect("TaskFinished", task_id=running, state="completed", value=None)
    await peer.expect("ResultResponse")
    await peer.expect("TaskFinished", task_id=running)


async def test_a_query_tells_how_tasks_stand_in_order(peer: Peer) -> None:
    """Null where there is no such task; the same one may be asked for twice."""
    await peer.register("B")
    first, second = await peer.submit({"kind": "A"}, {"kind": "B", "max_retries": 7})
    await peer.expect("Task")

    tasks = await peer.query(second, 999, first, second)
    pending = {"task_id": first, "kind": "A", "state": "pending", "retry_count": 0, "max_retries": 3}
    assigned = {"task_id": second, "kind": "B", "state": "assigned", "retry_count": 0, "max_retries": 7}
    assert tasks == [assigned, None, pending, assigned]
    assert await peer.query() == []


async def test_a_query_can_ask_to_be_notified(peer: Peer, other: Peer) -> None:
    """Of those that have not ended; the others are told by the answer, and never again."""
    await peer.register("A", capacity=2)
    ids = await peer.submit({"kind": "A"}, {"kind": "A"})
    tasks = [await peer.expect("Task"), await peer.expect("Task")]
    await peer.say(success(tasks[0]))
    await peer.expect("ResultResponse")

    answer = await other.query(*ids, 999, notify=True)
    assert [task and task["state"] for task in answer] == ["completed", "assigned", None]
    await peer.say(success(tasks[1], 5))
    await other.expect("TaskFinished", task_id=ids[1], value=5)
    assert await other.settled() == []


async def test_an_answer_too_long_for_a_line_is_refused(peer: Peer) -> None:
    """Fewer ids fit."""
    await peer.register("A", capacity=2)
    ids = await peer.submit({"kind": "A"}, {"kind": "A"})
    for task in [await peer.expect("Task"), await peer.expect("Task")]:
        await peer.say(success(task, "x" * 600_000))
        await peer.expect("ResultResponse", status="accepted")

    answer = await peer.ask({"type": "Query", "ref": 8, "ids": ids})
    assert (answer["type"], answer["code"], answer["ref"]) == ("Error", "response-too-large", 8)
    for id in ids:
        assert (await peer.query(id))[0] is not None


async def test_whoever_has_left_is_told_nothing(live: Live, peer: Peer) -> None:
    """A producer that is gone leaves no trace behind."""
    await peer.register("A")
    async with live.dial() as producer:
        await producer.submit({"kind": "A"}, notify=True)
    task = await peer.expect("Task")
    await peer.say(success(task))

    await peer.expect("ResultResponse")
    assert await peer.settled() == []


# Several workers.


@pytest.mark.parametrize(
    ("balance", "shares"), [("least-loaded", {1: 1, 2: 5}), ("round-robin", {1: 3, 2: 3}), ("random", None)]
)
async def test_the_balance_decides_who_gets_what(tmp_path: Path, balance: str, shares: dict[int, int] | None) -> None:
    """The share of what each can hold, each in turn, or chance."""
    async with (
        serving(tmp_path, balance=balance) as live,
        live.dial() as small,
        live.dial() as large,
        live.dial() as producer,
    ):
        await small.register("A", capacity=4)
        await large.register("A", capacity=20)
        await producer.submit(*[{"kind": "A"}] * 6)

        found = {1: len(await small.settled()), 2: len(await large.settled())}
        assert sum(found.values()) == 6
        assert found[1] <= 4
        assert shares is None or found == shares
