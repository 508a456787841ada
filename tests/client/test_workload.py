"""The workload: what a worker holds, and what it says about it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from anyio import create_task_group, fail_after, sleep, wait_all_tasks_blocked
from msgspec import Raw
from structlog.testing import capture_logs

from dtm.client.current import current
from dtm.client.handlers import Handler, Handlers, registry
from dtm.client.prefetch import AutoPrefetch, FixedPrefetch, Prefetch
from dtm.client.slots import threads
from dtm.client.verdicts import Retry, Snooze
from dtm.client.workload import Workload
from dtm.protocol.messages import Cancel, Capacity, ClientMessage, Progress, Release, Result, ResultResponse, Task
from tests.client.gates import Gate
from tests.waiting import LONG_S, in_the_end


def _fail(_: object) -> None:
    raise ValueError("boom")


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open at the end."""
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def handlers(gate: Gate) -> Handlers:
    """An echo, a failure and a gate."""
    return registry(Handler("Echo", lambda payload: payload), Handler("Fail", _fail), gate.handler)


class Impatient(AutoPrefetch):
    """Gives back at once what waits."""

    patience_s = 1e-9


def workload(handlers: Handlers, *, concurrency: int = 1, prefetch: Prefetch | None = None) -> Workload:
    """Make one that fetches a few ahead."""
    slots = threads(concurrency, lambda: None)
    return Workload(handlers, concurrency=concurrency, prefetch=prefetch or FixedPrefetch(4), slots=slots)


def task(assignment: int, kind: str = "Echo", payload: Any = None, timeout_s: float | None = None) -> Task:
    """Make a task; its id is ten times its assignment."""
    return Task(10 * assignment, assignment, kind, Raw(json.dumps(payload).encode()), 0, timeout_s)


def cancel(assignment: int, reason: str = "cancelled") -> Cancel:
    """Make the server's wish that a task stops."""
    return Cancel(10 * assignment, assignment, reason)


def answer(assignment: int, status: str = "accepted") -> ResultResponse:
    """Make the server's answer."""
    return ResultResponse(10 * assignment, assignment, status, "completed")


def results(load: Workload, count: int) -> list[Result]:
    """Wait until so many tasks have run, and give what is to be said of them."""
    said: list[ClientMessage] = []

    def look() -> list[Result] | None:
        said.extend(load.harvest())
        found = [message for message in said if isinstance(message, Result)]
        return found if len(found) == count else None

    return in_the_end(look)


def told(load: Workload, count: int) -> list[ClientMessage]:
    """Wait until so many messages have come of what has run, and give them."""
    said: list[ClientMessage] = []

    def look() -> bool:
        said.extend(load.harvest())
        return len(said) >= count

    in_the_end(look)
    return said


def test_a_task_runs_and_its_result_is_said(handlers: Handlers) -> None:
    """Nothing is said when it comes, and nothing when there is no news."""
    load = workload(handlers)

    assert load.take(task(1, payload=[1, "x"])) == []
    assert results(load, 1) == [Result(10, 1, ok=True, value=Raw(b'[1,"x"]'))]
    assert load.harvest() == []


def test_a_failure_is_said_with_its_reason(handlers: Handlers) -> None:
    """And logged."""
    load = workload(handlers)
    with capture_logs() as events:
        load.take(task(1, "Fail"))
        (said,) = results(load, 1)

    assert (said.ok, said.retry, said.error and (said.error.type, said.error.message)) == (
        False,
        True,
        ("ValueError", "boom"),
    )
    assert said.error is not None
    assert "_fail" in said.error.traceback
    assert [event["error"] for event in events] == ["ValueError: boom"]


def test_a_result_longer_than_the_server_takes_is_a_failure(handlers: Handlers) -> None:
    """Said as a result it would close the connection, again and again."""
    load = workload(handlers)
    load.bound_values(10)
    for assignment, payload in ((1, "12345678"), (2, "123456789")):
        load.take(task(assignment, payload=payload))
    fits, too_long = results(load, 2)

    assert fits.ok
    assert not too_long.ok
    assert too_long.error is not None
    assert "at most 10 bytes of JSON, found 11" in too_long.error.message


def test_a_kind_that_nobody_runs_goes_back(handlers: Handlers) -> None:
    """The server may still think of what was registered before."""
    load = workload(handlers)

    assert load.take(task(1, "Other")) == [Release(10, 1)]
    assert load.unfinished == 0


def test_it_is_held_until_the_server_has_heard(handlers: Handlers) -> None:
    """Waiting, running or done: a new connection names it, and says its result again."""
    load = workload(handlers)
    for assignment in (1, 2):
        load.take(task(assignment))
    assert sorted(load.assignments) == [1, 2]
    said = results(load, 2)
    assert load.unheard == said

    load.answered(answer(1))
    assert (load.assignments, load.unheard) == ([2], said[1:])
    load.answered(answer(2, "stale"))
    load.answered(answer(2))
    load.answered(answer(99))
    assert (load.assignments, load.unheard, load.unfinished) == ([], [], 0)


def test_a_stale_result_is_logged_once(handlers: Handlers) -> None:
    """Somebody may wonder why the work was done twice."""
    load = workload(handlers)
    load.take(task(1))
    results(load, 1)
    with capture_logs() as events:
        load.answered(answer(1, "stale"))
        load.answered(answer(1, "stale"))

    assert [(event["event"], event["assignment"]) for event in events] == [("task.stale", 1)]


def test_what_has_not_begun_can_go_back(handlers: Handlers, gate: Gate) -> None:
    """What runs goes on."""
    load = workload(handlers)
    for assignment in (1, 2, 3):
        load.take(task(assignment, "Gate"))
    in_the_end(lambda: gate.waiting)

    assert load.give_back() == [Release(20, 2), Release(30, 3)]
    assert load.give_back() == []
    assert load.unfinished == 1
    gate.open()
    assert [result.assignment for result in results(load, 1)] == [1]


def test_a_release_is_kept_until_the_server_has_heard_it(handlers: Handlers, gate: Gate) -> None:
    """One that was lost with its connection would leave the task with a worker that does not have it."""
    load = workload(handlers)
    for assignment in (1, 2, 3):
        load.take(task(assignment, "Gate"))
    in_the_end(lambda: gate.waiting)
    load.give_back()
    load.take(task(4, "Other"))
    assert sorted(load.assignments) == [1, 2, 3, 4]
    assert load.unheard == [Release(20, 2), Release(30, 3), Release(40, 4)]

    load.answered(answer(2))
    load.lost([3, 4])
    assert (load.assignments, load.unheard) == ([1], [])


def test_what_waits_behind_a_long_task_goes_back_after_a_while(handlers: Handlers, gate: Gate) -> None:
    """And so much less is wanted from then on."""
    prefetch = AutoPrefetch()
    prefetch.ran(100, 0.1)
    load = workload(handlers, prefetch=prefetch)
    assert load.capacity == 101
    load.take(task(1, "Gate"))
    in_the_end(lambda: gate.waiting)
    load.take(task(2))
    assert load.relieve() == []

    said = in_the_end(load.relieve)
    assert said == [Capacity(1), Release(20, 2)]
    assert load.capacity == 1


def test_nothing_goes_back_while_nothing_waits(handlers: Handlers, gate: Gate) -> None:
    """However long the running ones take."""
    load = workload(handlers, prefetch=Impatient())
    assert load.relieve() == []
    load.take(task(1, "Gate"))
    in_the_end(lambda: gate.waiting)

    assert load.relieve() == []
    load.take(task(2))
    assert load.relieve()[-1] == Release(20, 2)


def test_a_fixed_store_is_never_given_back(handlers: Handlers, gate: Gate) -> None:
    """The user said how many."""
    load = workload(handlers, prefetch=FixedPrefetch(2))
    for assignment in (1, 2):
        load.take(task(assignment, "Gate"))
    in_the_end(lambda: gate.waiting)

    assert load.relieve() == []
    assert load.capacity == 3


def test_short_tasks_ask_for_more(handlers: Handlers) -> None:
    """Before their results, so that the server fills the store with the same commit; small changes are not said."""
    load = workload(handlers, prefetch=AutoPrefetch())
    assert load.capacity == 1
    said: list[ClientMessage] = []
    for assignment in range(1, 200):
        load.take(task(assignment))

    def all_said() -> bool:
        said.extend(load.harvest())
        return sum(isinstance(message, Result) for message in said) == 199

    in_the_end(all_said)
    capacities = [message.capacity for message in said if isinstance(message, Capacity)]
    assert isinstance(said[0], Capacity)
    assert load.capacity == capacities[-1] > 1
    assert len(capacities) < 12


def test_a_closed_one_takes_no_more(handlers: Handlers, gate: Gate) -> None:
    """What runs may finish; nothing more is asked for."""
    load = workload(handlers, prefetch=AutoPrefetch())
    load.take(task(1, "Gate"))
    load.take(task(2, "Gate"))
    in_the_end(lambda: gate.waiting)

    assert load.close() == [Capacity(0), Release(20, 2)]
    assert load.take(task(3)) == [Release(30, 3)]
    assert load.capacity == 0
    gate.open()
    results(load, 1)
    assert load.capacity == 0


def test_what_is_lost_does_not_run(handlers: Handlers, gate: Gate) -> None:
    """What runs already goes on, and its result will be stale; the others keep their order."""
    load = workload(handlers)
    for assignment in (1, 2, 3, 4):
        load.take(task(assignment, "Gate"))
    in_the_end(lambda: gate.waiting)
    load.lost([1, 3, 99])

    assert sorted(load.assignments) == [1, 2, 4]
    gate.open()
    assert [result.assignment for result in results(load, 3)] == [1, 2, 4]


async def test_whoever_waits_learns_when_nothing_is_held(handlers: Handlers) -> None:
    """At once if nothing is; else when the server has heard the last result, and not before."""
    load = workload(handlers)
    with fail_after(5):
        await load.emptied()
        for assignment in (1, 2):
            load.take(task(assignment))
        async with create_task_group() as group:
            group.start_soon(load.emptied)
            results(load, 2)
            load.answered(answer(1))
            await wait_all_tasks_blocked()
            assert load.unfinished == 1
            load.answered(answer(2))


async def test_giving_everything_back_leaves_nothing_to_wait_for(handlers: Handlers, gate: Gate) -> None:
    """The server learns it from the release or from the goodbye."""
    load = workload(handlers)
    load.take(task(1, "Gate"))
    in_the_end(lambda: gate.waiting)
    load.take(task(2))
    load.give_back()
    gate.open()
    results(load, 1)
    load.answered(answer(1))

    with fail_after(5):
        await load.emptied()


# What is cancelled.


def test_what_has_not_begun_is_given_up_at_once(handlers: Handlers, gate: Gate) -> None:
    """And the answer is kept until it is heard; the others wait on, in their order."""
    load = workload(handlers)
    for assignment in (1, 2, 3, 4, 5):
        load.take(task(assignment, "Gate"))
    in_the_end(lambda: gate.waiting)
    said = load.cancel([cancel(4), cancel(2), cancel(99)])

    assert [(m.assignment, m.ok, m.retry, m.error and m.error.type) for m in said if isinstance(m, Result)] == [
        (2, False, False, "Cancelled"),
        (4, False, False, "Cancelled"),
    ]
    assert load.unheard == said
    assert load.cancel([cancel(2)]) == []
    gate.open()
    assert [result.assignment for result in results(load, 3)] == [1, 3, 5]


def test_a_task_whose_time_is_over_before_it_began_goes_back(handlers: Handlers, gate: Gate) -> None:
    """The server has seen its end, and counts its place as taken until it is answered."""
    load = workload(handlers)
    for assignment in (1, 2):
        load.take(task(assignment, "Gate"))
    in_the_end(lambda: gate.waiting)

    assert load.cancel([cancel(2, "timeout")]) == [Release(20, 2)]
    assert load.assignments == [1, 2]
    load.answered(ResultResponse(20, 2, "stale", "dead"))
    assert load.assignments == [1]


def test_a_thread_may_look_whether_it_is_asked_to_stop() -> None:
    """It ends as cancelled if it gives up, and not if it comes to its end."""

    def give_up(ending: str) -> str:
        in_the_end(lambda: current().cancel_requested)
        if ending == "early":
            raise RuntimeError("given up")
        return "finished"

    load = workload(registry(Handler("GiveUp", give_up)), concurrency=2)
    load.take(task(1, "GiveUp", payload="early"))
    load.take(task(2, "GiveUp", payload="late"))
    in_the_end(lambda: all(work.is_running for work in load._held.values()))
    assert load.cancel([cancel(1), cancel(2)]) == []
    gave_up, finished = sorted(results(load, 2), key=lambda result: result.assignment)

    assert (gave_up.error and gave_up.error.type, gave_up.retry) == ("Cancelled", False)
    assert finished == Result(20, 2, ok=True, value=Raw(b'"finished"'))


def test_whoever_has_ended_cannot_be_cancelled(handlers: Handlers) -> None:
    """Its result is on its way."""
    load = workload(handlers)
    load.take(task(1))
    said = results(load, 1)

    assert load.cancel([cancel(1)]) == []
    assert load.unheard == said


# What takes too long.


def test_a_thread_past_its_timeout_keeps_its_slot(handlers: Handlers, gate: Gate) -> None:
    """The server counts its place until it has ended; on another connection it has to be told. The log says why."""
    load = workload(handlers, concurrency=2, prefetch=FixedPrefetch(3))
    load.take(task(1, "Gate", timeout_s=0.01))
    load.take(task(2, "Gate", timeout_s=60))
    in_the_end(lambda: gate.waiting == 2)
    with capture_logs() as events:
        in_the_end(lambda: load.look_after(0.0) or events)
        assert load.look_after(1.0) == []
    assert load.capacity == 5
    load.lost([1])
    assert load.capacity == 4
    assert [(event["event"], event["task"], event["log_level"]) for event in events] == [
        ("task.overran", 10, "warning")
    ]

    gate.open()
    said = told(load, 3)
    assert [message for message in said if isinstance(message, Capacity)] == [Capacity(5)]
    assert all(message.ok for message in said if isinstance(message, Result))


def test_a_client_whose_slots_are_all_taken_asks_for_nothing(handlers: Handlers, gate: Gate) -> None:
    """Whatever it fetched would only wait; somebody has to know."""
    load = workload(handlers, prefetch=FixedPrefetch(3))
    load.take(task(1, "Gate", timeout_s=60))
    in_the_end(lambda: gate.waiting)
    with capture_logs() as events:
        load.cancel([cancel(1, "timeout")])
        assert load.look_after(0.0) == [Capacity(1)]
        assert load.look_after(1.0) == []

    load.lost([1])
    assert load.capacity == 0
    assert [event["event"] for event in events] == ["task.stopping", "task.overran", "slots.blocked"]


def test_a_thread_past_its_timeout_may_be_known_so_after_the_next_connection(handlers: Handlers, gate: Gate) -> None:
    """The server has disowned it before it was noticed here: its slot is taken all the same, until it has ended."""
    load = workload(handlers, concurrency=2, prefetch=FixedPrefetch(3))
    load.take(task(1, "Gate", timeout_s=0.01))
    in_the_end(lambda: gate.waiting)
    load.lost([1])
    assert load.capacity == 5

    assert in_the_end(lambda: load.look_after(0.0)) == [Capacity(4)]

    gate.open()
    assert Capacity(5) in told(load, 2)


# How far tasks have got.


def test_progress_is_told_twice_a_second_at_most() -> None:
    """The last word counts; what is not new is not said again; the last of all comes before the result."""
    steps = iter([0.1, 0.2, 0.3, 0.4])
    turns = [threading.Event() for _ in range(4)]
    done = [threading.Event() for _ in range(4)]

    def work(_: object) -> str:
        for turn, ready in zip(turns, done, strict=True):
            assert turn.wait(LONG_S)
            current().progress(next(steps), "step")
            ready.set()
        return "end"

    def step(number: int) -> None:
        turns[number].set()
        assert done[number].wait(LONG_S)

    load = workload(registry(Handler("Work", work)))
    load.take(task(1, "Work"))
    assert load.look_after(0.0) == []
    step(0)
    assert load.look_after(0.0) == [Progress(10, 1, 0.1, "step")]
    step(1)
    assert load.look_after(0.4) == []
    step(2)
    assert load.look_after(0.5) == [Progress(10, 1, 0.3, "step")]
    assert load.look_after(1.5) == []
    step(3)

    assert in_the_end(load.harvest) == [Progress(10, 1, 0.4, "step"), Result(10, 1, ok=True, value=Raw(b'"end"'))]


# What goes back.


def test_a_task_that_puts_itself_off_goes_back_for_so_long() -> None:
    """Without blame; kept until the server has heard it."""

    def snooze(_: object) -> None:
        raise Snooze("10m")

    load = workload(registry(Handler("Snooze", snooze)))
    load.take(task(1, "Snooze"))

    assert in_the_end(load.harvest) == [Release(10, 1, 600.0)]
    assert (load.unfinished, load.unheard) == (0, [Release(10, 1, 600.0)])


def test_a_task_that_asks_for_another_try_says_when() -> None:
    """With the bases of what it raised, for the retry policy."""

    def retry(_: object) -> None:
        raise Retry(after=90)

    load = workload(registry(Handler("Retry", retry)))
    load.take(task(1, "Retry"))
    (said,) = results(load, 1)

    assert (said.retry, said.after) == (True, 90.0)
    assert said.error is not None
    assert (said.error.type, said.error.bases) == ("Retry", ["DtmError"])


async def test_what_can_be_stopped_goes_back_at_the_end(gate: Gate) -> None:
    """A coroutine is cancelled; a thread cannot be, and nobody waits for it."""

    async def wait(_: object) -> None:
        await sleep(LONG_S)

    load = workload(registry(Handler("Wait", wait), gate.handler), concurrency=2)
    load.take(task(1, "Wait"))
    load.take(task(2, "Gate"))
    in_the_end(lambda: gate.waiting and all(work.is_running for work in load._held.values()))
    load.stop()

    assert told(load, 1) == [Release(10, 1)]
    with fail_after(LONG_S):
        await load.stopped()
    assert load.unfinished == 1
    load.end()
