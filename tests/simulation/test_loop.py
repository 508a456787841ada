"""The loop of made-up time."""

from __future__ import annotations

import time

import pytest
from anyio import Event, create_task_group, move_on_after, sleep, sleep_forever

from tests.simulation.loop import SimulatedLoop, Stuck, run
from tests.simulation.process import Process


def test_waiting_takes_no_time() -> None:
    """A thousand years pass at once, and in order."""
    began_s = time.monotonic()
    seen = []

    async def main(loop: SimulatedLoop) -> float:
        async def wait(seconds: float) -> None:
            await sleep(seconds)
            seen.append(seconds)

        async with create_task_group() as group:
            for seconds in (3.2e10, 5.0, 1e-6):
                group.start_soon(wait, seconds)
        return loop.time()

    assert run(main) == 3.2e10
    assert seen == [1e-6, 5.0, 3.2e10]
    assert time.monotonic() - began_s < 5


def test_a_world_in_which_nothing_can_happen_any_more_is_stuck() -> None:
    """Instead of hanging."""

    async def main(_: SimulatedLoop) -> None:
        await sleep_forever()

    with pytest.raises(Stuck, match="everybody waits"):
        run(main)


def test_a_thread_is_refused() -> None:
    """It would bring real time in."""

    async def main(loop: SimulatedLoop) -> None:
        loop.run_in_executor(None, time.time)

    with pytest.raises(AssertionError, match="found a thread"):
        run(main)


def test_a_stopped_process_does_nothing_until_it_goes_on() -> None:
    """Not even what was due meanwhile; then all of it at once."""

    async def main(loop: SimulatedLoop) -> list[float]:
        ticks: list[float] = []

        async def tick() -> None:
            for _ in range(4):
                await sleep(1)
                ticks.append(loop.time())

        process = Process(loop, "ticker")
        async with create_task_group() as group:
            group.start_soon(process.run, tick)
            await sleep(1.5)
            process.freeze()
            await sleep(10)
            process.thaw()
        return ticks

    assert run(main) == [1.0, 11.5, 12.5, 13.5]


def test_a_killed_process_ends_at_once() -> None:
    """And only it."""

    async def main(loop: SimulatedLoop) -> bool:
        process = Process(loop, "victim")
        others = Event()
        async with create_task_group() as group:
            group.start_soon(process.run, sleep_forever)
            await sleep(1)
            process.kill()
            with move_on_after(1):
                await sleep(0.5)
                others.set()
        return process.is_dead and others.is_set()

    assert run(main)
