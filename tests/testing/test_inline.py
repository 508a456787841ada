"""Inline, a submission runs the function at once, and all else is as it would be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import dtm
from dtm.testing import inline
from tests.tasks import tasks_app
from tests.tasks.tasks_app import Size, app, area, fail, greet, lie, single, wait


@pytest.fixture(autouse=True)
def _inline() -> Iterator[None]:
    """Run tasks at once."""
    with inline(app):
        yield


async def test_a_result_is_there_at_once() -> None:
    """For functions and coroutine functions, whether the app is opened or not."""
    async with app:
        assert await (await area.submit(Size(3, 4), factor=2)).result() == 24
    job = await greet.submit("you")

    assert await job.result(timeout=0) == "hello, you"
    assert (await job.status()).state == "completed"
    assert await job.cancel() == "completed"
    assert [update.state async for update in job.updates()] == ["completed"]


def test_programs_without_async_are_served_too() -> None:
    """In the thread that submits."""
    assert greet.sync.submit("you").result() == "hello, you"
    assert [job.result() for job in area.sync.submit_many([Size(2), (Size(3), 2)])] == [2, 6]
    assert [update.state for update in greet.sync.submit("me").updates()] == ["completed"]


async def test_a_loop_is_not_held_up_here_either() -> None:
    """A test finds the mistake."""
    with pytest.raises(dtm.Blocking):
        greet.sync.submit("you")


def test_arguments_travel_as_json_and_are_checked() -> None:
    """They are copies, and wrong ones are refused."""
    size = Size(1)
    seen: list[Any] = []
    own = dtm.App()
    keep = own.task(kind="keep")(lambda size: seen.append(size))  # noqa: PLW0108
    with inline(own):
        keep.sync.submit(size)
    assert seen == [{"width": 1, "height": 1}]
    with pytest.raises(dtm.BadArguments):
        greet.sync.submit(3)  # type: ignore[arg-type]
    with pytest.raises(dtm.UnexpectedResult):
        lie.sync.submit().result()


def test_a_failure_is_raised_as_after_all_retries() -> None:
    """With the traceback."""
    job = fail.sync.submit("sour")
    with pytest.raises(dtm.TaskFailed, match="Sour: sour") as caught:
        job.result()

    assert "raise Sour(message)" in caught.value.traceback
    assert (job.status().state, job.status().retry_count) == ("dead", 2)


@pytest.mark.parametrize(
    ("options", "error", "attempts"),
    [
        ({}, OSError, 3),
        ({"max_retries": 5}, OSError, 5),
        ({"retry_for": OSError}, FileNotFoundError, 3),
        ({"retry_for": KeyError}, FileNotFoundError, 1),
        ({"no_retry_for": OSError}, FileNotFoundError, 1),
        ({}, dtm.Reject, 1),
        ({}, dtm.Retry, 3),
    ],
)
def test_a_failed_task_is_tried_again_as_its_policy_says(
    options: dict[str, Any], error: type[Exception], attempts: int
) -> None:
    """As often, and after the same failures."""
    seen: list[int] = []
    own = dtm.App()

    @own.task(**options)
    def broken() -> None:
        seen.append(dtm.current().attempt)
        raise error("broken" if error is not dtm.Retry else None)

    with inline(own), pytest.raises(dtm.TaskFailed):
        broken.sync.submit().result()

    assert seen == list(range(1, attempts + 1))


def test_a_key_is_one_task() -> None:
    """It runs once."""
    keyed = wait.options(key="k")

    assert keyed.sync.submit(0.0).id == keyed.sync.submit(0.0).id
    assert single.sync.submit(1).id != single.sync.submit(1).id
    with pytest.raises(dtm.RequestRefused, match="the key 'k'"):
        keyed.sync.submit(0.5)


def test_progress_is_kept() -> None:
    """The last word."""
    status = wait.sync.submit(0.0).status()

    assert (status.fraction, status.note) == (0.5, "half way")


def test_what_puts_itself_off_does_not_hang_the_test() -> None:
    """Nothing runs later; it can be cancelled."""
    job = tasks_app.snooze_once.sync.submit(time.time() + 60)
    with pytest.raises(TimeoutError, match="inline nothing runs later"):
        job.result()

    assert job.status().state == "scheduled"
    assert job.cancel() == "cancelled"
    with pytest.raises(dtm.TaskCancelled):
        job.result()


def test_an_unknown_id_is_not_found() -> None:
    """As on a server."""
    with pytest.raises(dtm.NotFound):
        greet.sync.job(4711).result()


def test_afterwards_the_app_speaks_to_its_server_again() -> None:
    """Also after a test that failed."""
    own = dtm.App("127.0.0.1:1")
    task = own.task(kind="t")(lambda: 1)

    def fails() -> None:
        with inline(own):
            assert task.sync.submit().result() == 1
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fails()
    with pytest.raises(dtm.Unreachable):
        task.sync.submit()
