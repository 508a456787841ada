"""Slots: real threads that run tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dtm.client.current import CurrentTask
from dtm.client.handlers import Handler, Success
from dtm.client.slots import threads
from dtm.client.work import Work
from tests.client.gates import Gate, harvested
from tests.waiting import LONG_S, in_the_end


class Bell:
    """Counts how often it was rung."""

    def __init__(self) -> None:
        self.rung = 0

    def __call__(self) -> None:
        """Ring."""
        self.rung += 1


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open at the end, so that no thread stays behind."""
    gate = Gate()
    yield gate
    gate.open()


ECHO = Handler("Echo", lambda payload: payload)


def work(number: int, handler: Handler = ECHO) -> Work:
    """Make a task."""
    return Work(number, handler, str(number).encode(), CurrentTask(10 * number, handler.kind, 1))


def test_tasks_run_and_come_back_with_outcome_and_duration() -> None:
    """All of them, each once."""
    slots = threads(3, Bell())
    for number in range(100):
        slots.put(work(number))

    done = harvested(slots, 100)
    assert sorted(item.assignment for item in done) == list(range(100))
    for item in done:
        assert isinstance(item.outcome, Success)
        assert bytes(item.outcome.value) == str(item.assignment).encode()
        assert 0 <= item.took_s < LONG_S
    assert slots.harvest() == []


def test_as_many_run_at_once_as_there_are_threads(gate: Gate) -> None:
    """The others wait, in their order."""
    slots = threads(2, Bell())
    for number in range(5):
        slots.put(work(number, gate.handler))
    in_the_end(lambda: gate.waiting == 2)

    assert [item.assignment for item in slots.withdraw()] == [2, 3, 4]
    assert slots.withdraw() == []
    gate.open()
    assert sorted(item.assignment for item in harvested(slots, 2)) == [0, 1]


def test_many_that_finish_ring_once_until_they_are_harvested() -> None:
    """A wake-up of the event loop costs more than a short task."""
    bell = Bell()
    slots = threads(1, bell)
    for number in range(50):
        slots.put(work(number))
    in_the_end(lambda: len(slots._done) == 50)
    assert bell.rung == 1
    assert len(slots.harvest()) == 50

    slots.put(work(50))
    in_the_end(lambda: bell.rung == 2)


def test_no_ring_is_lost_however_harvests_and_ends_meet() -> None:
    """Whoever harvests only when it is rung for gets everything."""
    rung = threading.Event()
    slots = threads(4, rung.set)
    count, found = 20_000, 0
    for number in range(count):
        slots.put(work(number))

    while found < count:
        assert rung.wait(LONG_S), f"{found} of {count}"
        rung.clear()
        found += len(slots.harvest())


def test_a_handler_cannot_end_a_thread() -> None:
    """Whatever it raises is an outcome; the slot goes on."""

    def exit_all(_: object) -> None:
        raise SystemExit(3)

    slots = threads(1, Bell())
    slots.put(work(1, Handler("Exit", exit_all)))
    slots.put(work(2))

    assert [isinstance(item.outcome, Success) for item in harvested(slots, 2)] == [False, True]


def test_nothing_stalls_while_nothing_waits(gate: Gate) -> None:
    """However long the running ones take."""
    slots = threads(1, Bell())
    assert slots.stalled_s() == 0
    slots.put(work(1, gate.handler))
    in_the_end(lambda: gate.waiting)

    assert slots.stalled_s() == 0


def test_what_waits_stalls_from_when_it_came(gate: Gate) -> None:
    """Not from when the one before it began: that would be held against a task that has just come."""
    slots = threads(1, Bell())
    slots.put(work(1, gate.handler))
    in_the_end(lambda: gate.waiting)
    begun_s = time.perf_counter()
    in_the_end(lambda: time.perf_counter() - begun_s > 0.3)
    slots.put(work(2))
    assert slots.stalled_s() < 0.2

    in_the_end(lambda: slots.stalled_s() > 0.2)
    slots.put(work(3))
    assert slots.stalled_s() > 0.2
