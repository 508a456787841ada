"""The workload: what a worker holds, and what it says about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from anyio import create_task_group, fail_after, wait_all_tasks_blocked
from msgspec import Raw
from structlog.testing import capture_logs

from dtm.client.handlers import Handler, Handlers, registry
from dtm.client.prefetch import AutoPrefetch, FixedPrefetch, Prefetch
from dtm.client.slots import threads
from dtm.client.workload import Workload
from dtm.protocol.messages import Capacity, ClientMessage, Release, Result, ResultResponse, Task
from tests.client.gates import Gate
from tests.waiting import in_the_end


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


def task(assignment: int, kind: str = "Echo", payload: Any = None) -> Task:
    """Make a task; its id is ten times its assignment."""
    return Task(10 * assignment, assignment, kind, Raw(json.dumps(payload).encode()), 0, None)


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
