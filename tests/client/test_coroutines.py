"""Coroutines: real ones, in the event loop of the slots."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dtm.client.coroutines import Coroutines
from dtm.client.current import CurrentTask
from dtm.client.failures import Failure
from dtm.client.handlers import Handler, Returned, Success
from dtm.client.slots import Slots, threads
from dtm.client.work import Work
from tests.client.gates import harvested
from tests.waiting import LONG_S, eventually, in_the_end


class Crowd:
    """Tasks that wait until they are let through; counts how many run at once, whatever runs them."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.is_open = False
        self._lock = threading.Lock()
        self.coroutine = Handler("Coroutine", self._await)
        self.thread = Handler("Thread", self._wait)

    def _come(self) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)

    def _go(self) -> None:
        with self._lock:
            self.running -= 1

    async def _await(self, payload: Any) -> Any:
        self._come()
        try:
            await eventually(lambda: self.is_open, within_s=3 * LONG_S)
        finally:
            self._go()
        return payload

    def _wait(self, payload: Any) -> Any:
        self._come()
        in_the_end(lambda: self.is_open)
        self._go()
        return payload


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """A crowd that is let through in the end."""
    crowd = Crowd()
    yield crowd
    crowd.is_open = True


@pytest.fixture
def make_slots() -> Iterator[Callable[[int], Slots]]:
    """Make slots that are closed in the end."""
    made: list[Slots] = []

    def make(count: int) -> Slots:
        made.append(threads(count, lambda: None))
        return made[-1]

    yield make
    for slots in made:
        slots.close()


def work(number: int, handler: Handler, *, timeout_s: float | None = None) -> Work:
    """Make a task."""
    return Work(number, handler, b"null", CurrentTask(10 * number, handler.kind, 1), timeout_s)


def begun(slots: Slots, function: Callable[[Any], Any], *, timeout_s: float | None = None) -> Work:
    """Let a task begin."""
    task = work(1, Handler("Begun", function), timeout_s=timeout_s)
    slots.put(task)
    in_the_end(lambda: task.begun_s)
    return task


def ended(slots: Slots, count: int = 1) -> list[Work]:
    """Wait until so many tasks have ended."""
    return harvested(slots, count)


def failure_of(task: Work) -> Failure:
    """Give the failure that a task ended in."""
    assert isinstance(task.outcome, Failure), task.outcome
    return task.outcome


def test_concurrency_bounds_coroutines_and_threads_together(make_slots: Callable[[int], Slots], crowd: Crowd) -> None:
    """Five slots: five tasks at once, in the order in which they came; each that ends makes room for one."""
    slots = make_slots(5)
    for number in range(40):
        slots.put(work(number, (crowd.coroutine, crowd.thread)[number % 2]))
    in_the_end(lambda: crowd.running == 5)
    assert [task.assignment for task in slots.withdraw()] == list(range(5, 40))

    for number in range(5, 40):
        slots.put(work(number, (crowd.coroutine, crowd.thread)[number % 2]))
    crowd.is_open = True
    assert sorted(task.assignment for task in ended(slots, 40)) == list(range(40))
    assert crowd.most == 5


def test_one_thread_begins_any_number_of_coroutines(make_slots: Callable[[int], Slots], crowd: Crowd) -> None:
    """A thousand that wait cost no thousand threads."""
    before = threading.active_count()
    slots = make_slots(1_000)
    for number in range(1_000):
        slots.put(work(number, crowd.coroutine))
    in_the_end(lambda: crowd.running == 1_000)

    assert threading.active_count() - before <= 2
    crowd.is_open = True
    assert len(ended(slots, 1_000)) == 1_000


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_coroutine_waits_for_no_thread_that_is_busy(
    make_slots: Callable[[int], Slots], crowd: Crowd, earlier: int
) -> None:
    """As long as there are slots it begins at once, whatever came before."""
    slots = make_slots(5)
    if earlier:
        slots.put(work(1, crowd.coroutine))
    for number in range(2, 4):
        slots.put(work(number, crowd.thread))
    in_the_end(lambda: crowd.running == 2 + earlier)
    for number in range(4, 6):
        slots.put(work(number, crowd.coroutine))

    in_the_end(lambda: crowd.running == 4 + earlier)


def test_a_coroutine_that_is_asked_to_stop_is_cancelled(make_slots: Callable[[int], Slots]) -> None:
    """It may clean up, and counts as cancelled, without another try."""
    cleaned: list[str] = []
    running: list[bool] = []

    async def wait(_: object) -> None:
        running.append(True)
        try:
            await asyncio.sleep(LONG_S)
        finally:
            cleaned.append("yes")

    slots = make_slots(1)
    task = begun(slots, wait)
    in_the_end(lambda: running)
    began_s = time.monotonic()
    slots.stop(task, "cancelled")
    ended(slots)

    assert time.monotonic() - began_s < LONG_S / 2
    assert (failure_of(task).type, failure_of(task).retry, cleaned) == ("Cancelled", False, ["yes"])
    assert "asyncio.sleep" in failure_of(task).traceback


def test_a_stop_that_comes_before_the_first_step_leaves_no_slot_behind(make_slots: Callable[[int], Slots]) -> None:
    """Begun, and not yet on its way: however the two meet, the task ends and its slot is free again."""
    slots = make_slots(1)

    async def nothing(_: object) -> None:
        pass

    for _ in range(300):
        task = work(1, Handler("Nothing", nothing))
        slots.put(task)
        while not task.begun_s:
            pass
        slots.stop(task, "cancelled")
        assert ended(slots) == [task]
        assert isinstance(task.outcome, Success) or failure_of(task).type == "Cancelled"


def test_what_is_cancelled_before_its_first_step_has_ended_too(crowd: Crowd) -> None:
    """It has come to no outcome of its own."""
    ended: list[Work] = []
    coroutines = Coroutines(ended.append)

    async def block(_: object) -> None:
        in_the_end(lambda: crowd.is_open)

    blocks, task = work(1, Handler("Block", block)), work(2, crowd.coroutine)
    coroutines.start(blocks, max_value=100)
    coroutines.start(task, max_value=100)
    coroutines.stop(task)
    crowd.is_open = True
    in_the_end(lambda: len(ended) == 2)
    coroutines.close()

    assert (ended, task.outcome) == ([blocks, task], Returned())


def test_a_success_wins_against_the_wish_to_stop(make_slots: Callable[[int], Slots], crowd: Crowd) -> None:
    """Whoever swallows his cancellation and goes on may still come to his end."""
    heard: list[str] = []

    async def stubborn(_: object) -> str:
        heard.append("begun")
        try:
            await asyncio.sleep(LONG_S)
        except asyncio.CancelledError:
            heard.append("no")
        await eventually(lambda: crowd.is_open)
        return "done"

    slots = make_slots(2)
    task = begun(slots, stubborn)
    in_the_end(lambda: heard)
    slots.stop(task, "cancelled")
    in_the_end(lambda: heard == ["begun", "no"])
    slots.put(work(2, Handler("Other", lambda _: None)))
    assert [other.assignment for other in ended(slots)] == [2]
    crowd.is_open = True
    ended(slots)

    assert isinstance(task.outcome, Success)
    assert bytes(task.outcome.value) == b'"done"'


def test_a_coroutine_is_cancelled_at_its_timeout(make_slots: Callable[[int], Slots]) -> None:
    """That is a failure, and it may be tried again; whatever it raises on its way out is not what went wrong."""

    async def wait(_: object) -> None:
        try:
            await asyncio.sleep(LONG_S)
        finally:
            raise ValueError("untidy")

    slots = make_slots(1)
    task = begun(slots, wait, timeout_s=0.05)
    ended(slots)

    assert (failure_of(task).type, failure_of(task).retry) == ("TimeoutError", True)
    assert "timeout of 0.05 s" in failure_of(task).message
    assert "untidy" in failure_of(task).traceback
    assert task.took_s < LONG_S / 2


def test_whoever_is_in_time_hears_nothing_of_the_timeout(make_slots: Callable[[int], Slots]) -> None:
    """Nor does the next one."""
    slots = make_slots(1)

    async def wait(_: object) -> None:
        await asyncio.sleep(0.1)

    for number in range(3):
        slots.put(work(number, Handler("Wait", wait), timeout_s=LONG_S if number else 0.25))

    assert all(isinstance(task.outcome, Success) for task in ended(slots, 3))


def test_a_handler_that_cancels_itself_has_failed(make_slots: Callable[[int], Slots]) -> None:
    """Nobody asked it to: another try may go better."""

    async def give_up(_: object) -> None:
        raise asyncio.CancelledError("from within")

    slots = make_slots(1)
    task = begun(slots, give_up)
    ended(slots)

    assert (failure_of(task).type, failure_of(task).retry) == ("CancelledError", True)


def test_what_is_stopped_for_the_end_of_the_client_goes_back(make_slots: Callable[[int], Slots]) -> None:
    """Nobody is to blame."""

    async def wait(_: object) -> None:
        await asyncio.sleep(LONG_S)

    slots = make_slots(1)
    task = begun(slots, wait)
    slots.stop(task, "shutdown")
    ended(slots)

    assert task.outcome == Returned()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_coroutine_cannot_end_the_loop(make_slots: Callable[[int], Slots], error: BaseException) -> None:
    """Whatever it raises is an outcome; the next one runs."""

    async def leave(_: object) -> None:
        raise error

    async def stay(_: object) -> None:
        await asyncio.sleep(0)

    slots = make_slots(1)
    slots.put(work(1, Handler("Leave", leave)))
    slots.put(work(2, Handler("Stay", stay)))

    assert [isinstance(task.outcome, Success) for task in ended(slots, 2)] == [False, True]


def test_the_end_does_not_wait_for_whoever_will_not_end(make_slots: Callable[[int], Slots], crowd: Crowd) -> None:
    """Neither for a coroutine that blocks the loop, nor for one that swallows its cancellation."""
    blocks = make_slots(1)
    entered: list[str] = []

    async def block(_: object) -> None:
        entered.append("block")
        in_the_end(lambda: crowd.is_open)

    async def swallow(_: object) -> None:
        entered.append("swallow")
        while not crowd.is_open:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass

    swallows = make_slots(1)
    begun(blocks, block)
    begun(swallows, swallow)
    in_the_end(lambda: len(entered) == 2)
    began_s = time.monotonic()
    blocks.close()
    swallows.close()

    assert time.monotonic() - began_s < LONG_S


def test_what_a_subtask_raises_ends_its_task_only(make_slots: Callable[[int], Slots]) -> None:
    """asyncio lets SystemExit and KeyboardInterrupt out of its loop at once, past whoever awaits; others go on."""
    slots = make_slots(3)

    async def exit_below(_: Any) -> None:
        async def leave() -> None:
            raise SystemExit(3)

        await asyncio.gather(leave())

    async def nap(_: Any) -> str:
        await asyncio.sleep(0.1)
        return "rested"

    works = [work(1, Handler("Nap", nap)), work(2, Handler("Exit", exit_below)), work(3, Handler("Nap", nap))]
    for each in works:
        slots.put(each)
    harvested(slots, 3)
    slots.put(after := work(4, Handler("Nap", nap)))
    harvested(slots, 1)

    assert [getattr(each.outcome, "type", None) for each in [*works, after]] == [None, "SystemExit", None, None]
