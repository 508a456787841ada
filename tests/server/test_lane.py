"""The thread that does one thing after another for the event loop."""

from __future__ import annotations

import threading
from threading import Event, Thread

import anyio
import pytest
from anyio import create_task_group, fail_after, move_on_after, to_thread

from dtm.server.lane import Lane

TIMEOUT_S = 10.0


async def test_work_is_done_in_one_thread_in_the_order_it_came() -> None:
    """What comes while the first is at work waits for it."""
    done: list[int] = []
    threads: set[Thread] = set()
    may_go_on = Event()

    def work(number: int) -> None:
        may_go_on.wait(TIMEOUT_S)
        threads.add(threading.current_thread())
        done.append(number)

    with fail_after(TIMEOUT_S), Lane() as lane:
        async with create_task_group() as group:
            for number in range(5):
                group.start_soon(lane, work, number)
                await anyio.wait_all_tasks_blocked()
            may_go_on.set()

    assert done == [0, 1, 2, 3, 4]
    assert len(threads) == 1
    assert threading.current_thread() not in threads


async def test_what_work_returns_or_raises_reaches_whoever_asked() -> None:
    """After an error the lane goes on."""
    with fail_after(TIMEOUT_S), Lane() as lane:
        with pytest.raises(ZeroDivisionError):
            await lane(divmod, 1, 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await lane(next, iter(()))
        assert await lane(divmod, 7, 2) == (3, 1)


async def test_whoever_is_cancelled_waits_for_the_work_all_the_same() -> None:
    """Nobody closes a file under a thread that writes to it."""
    has_begun, may_end = Event(), Event()
    done: list[str] = []

    def work() -> None:
        has_begun.set()
        may_end.wait(TIMEOUT_S)
        done.append("work")

    async def ask(lane: Lane) -> None:
        with move_on_after(0):
            await lane(work)
        done.append("asked")

    with fail_after(TIMEOUT_S), Lane() as lane:
        async with create_task_group() as group:
            group.start_soon(ask, lane)
            assert await to_thread.run_sync(has_begun.wait, TIMEOUT_S)
            group.cancel_scope.cancel()
            may_end.set()

    assert done == ["work", "asked"]


async def test_the_thread_ends_with_the_context() -> None:
    """It keeps no program from its end."""
    with fail_after(TIMEOUT_S):
        with Lane() as lane:
            thread = await lane(threading.current_thread)
            assert thread.is_alive()
        assert not thread.is_alive()
