"""The current task: what its own code sees of it, wherever it runs."""

from __future__ import annotations

import asyncio
import math
import threading
from contextvars import ContextVar
from typing import Any

import pytest
from msgspec import Raw

from dtm.client.current import MOST_NOTE_CHARACTERS, CurrentTask, NoCurrentTask, current, running
from dtm.client.handlers import Handler, Success
from dtm.client.slots import threads
from dtm.client.work import Work
from tests.client.gates import harvested


def _told(_: object) -> list[Any]:
    task = current()
    return [task.id, task.kind, task.attempt, task.cancel_requested]


async def _told_later(_: object) -> list[Any]:
    await asyncio.sleep(0.001)
    return [*_told(None), await asyncio.to_thread(_told, None)]


def last_word(*words: tuple[float | None, str]) -> tuple[float | None, str] | None:
    """Let a task tell of its progress, and give what is known of it then."""
    task = CurrentTask(1, "K", 1)
    for fraction, note in words:
        task.progress(fraction, note)
    return task.latest


def test_nobody_runs_outside_of_a_task() -> None:
    """And the message says where to call it."""
    with pytest.raises(NoCurrentTask, match=r"call dtm\.current"):
        current()


def test_each_of_many_tasks_sees_itself() -> None:
    """In threads and in coroutines that run at once, and in the threads that a coroutine waits for."""
    slots = threads(8, lambda: None)
    seen = Handler("Seen", _told)
    later = Handler("Later", _told_later)
    for number in range(100):
        handler = (seen, later)[number % 2]
        slots.put(Work(number, handler, b"null", CurrentTask(number, handler.kind, number + 1)))
    found = harvested(slots, 100)
    slots.close()

    for work in found:
        assert isinstance(work.outcome, Success)
        own = f'[{work.task_id},"{work.handler.kind}",{work.task_id + 1},false'
        expected = f"{own}]" if work.handler is seen else f"{own},{own}]]"
        assert bytes(work.outcome.value).decode() == expected


_SEEN: ContextVar[int] = ContextVar("seen", default=0)


def _count(_: object) -> int:
    _SEEN.set(_SEEN.get() + 1)
    return _SEEN.get()


async def _count_later(_: object) -> int:
    await asyncio.sleep(0)
    return _count(None)


def test_no_task_sees_the_context_variables_of_another() -> None:
    """Although one thread runs a task, and then begins a coroutine, over and over."""
    slots = threads(1, lambda: None)
    for number in range(20):
        handler = Handler("Count", (_count, _count_later)[number % 2])
        slots.put(Work(number, handler, b"null", CurrentTask(number, "Count", 1)))
    found = harvested(slots, 20)
    slots.close()

    assert [work.outcome for work in found] == [Success(Raw(b"1"))] * 20


def test_a_thread_of_its_own_is_no_task() -> None:
    """Unless it is given the context."""
    found: list[bool] = []

    def look() -> None:
        try:
            current()
        except NoCurrentTask:
            found.append(True)

    with running(CurrentTask(1, "K", 1)):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert current().id == 1

    assert found == [True]


def test_the_last_word_on_progress_counts() -> None:
    """Whoever does not know how far he is says None."""
    assert last_word((0, ""), (1, ""), (None, "nearly")) == (None, "nearly")
    assert last_word((0.5, "x" * 1_000)) == (0.5, "x" * MOST_NOTE_CHARACTERS)
    assert last_word((0.5, "\ud800")) == (0.5, "\\ud800")


@pytest.mark.parametrize("fraction", [-0.001, 1.001, math.nan, math.inf, 50])
def test_a_fraction_is_one(fraction: float) -> None:
    """Percent are the usual mistake."""
    task = CurrentTask(1, "K", 1)
    with pytest.raises(ValueError, match="fraction from 0 to 1"):
        task.progress(fraction)
    assert task.latest is None


def test_it_says_which_it_is() -> None:
    """For a debugger."""
    assert repr(CurrentTask(7, "Resize", 2)) == "<task 7: Resize, attempt 2>"
