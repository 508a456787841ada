"""Submitting, waiting, cancelling: against a real server, with a real worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import create_task_group, fail_after

import dtm
from tests.server.live import Live, serving, success
from tests.tasks import tasks_app
from tests.tasks.staff import point, staffed, working
from tests.tasks.tasks_app import Size, app, area, fail, greet, lie, single, wait
from tests.waiting import LONG_S, eventually


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    """A server, a worker, and the app open."""
    async with staffed(tmp_path, app) as live:
        yield live


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[Live]:
    """A server without any worker, and the app open."""
    async with serving(tmp_path) as live:
        point(app, live.port)
        async with app:
            yield live


# Results.


async def test_a_submitted_task_gives_its_result(live: Live) -> None:
    """A function and a coroutine function, as the types that they return."""
    job = await area.submit(Size(3, 4), factor=2)

    assert await job.result(timeout=LONG_S) == 24
    assert await (await greet.submit("you")).result() == "hello, you"
    assert live.history(job.id).task.payload == '{"size":{"width":3,"height":4},"factor":2}'


async def test_a_result_can_be_waited_for_by_many_and_again(live: Live) -> None:
    """By the job, by another one of the same id, before and after the end."""
    job = await wait.submit(0.1)
    jobs: list[dtm.Job[Any]] = [job, job, wait.job(job.id), app.job(job.id)]

    assert await asyncio.gather(*[each.result(LONG_S) for each in jobs]) == [1, 1, 1, 1]
    assert await job.result() == 1
    assert app.producer._watches._by_id == {}


async def test_a_failure_is_told_with_the_traceback_of_the_worker(live: Live) -> None:
    """After all its retries."""
    job = await fail.submit("too sour")
    with pytest.raises(dtm.TaskFailed, match=rf"task {job.id} failed: Sour: too sour") as caught:
        await job.result(LONG_S)

    failed = caught.value
    assert (failed.id, failed.type, failed.message) == (job.id, "Sour", "too sour")
    assert "raise Sour(message)" in failed.traceback
    assert live.state(job.id) == ("dead", 2)


async def test_a_result_of_another_type_than_announced_is_told(live: Live) -> None:
    """It is not given as what it is not."""
    job = await lie.submit()
    with pytest.raises(dtm.UnexpectedResult, match=r"lie has another result .* found \"seven\""):
        await job.result(LONG_S)


async def test_whoever_waited_in_vain_can_wait_again(live: Live) -> None:
    """The task goes on."""
    job = await wait.submit(0.5)
    with pytest.raises(TimeoutError, match=rf"task {job.id} has not ended within 10ms; it goes on"):
        await job.result(timeout="10ms")

    assert await job.result(timeout=timedelta(seconds=LONG_S)) == 1


async def test_an_id_that_does_not_exist_is_told_and_not_waited_for(live: Live) -> None:
    """By all that can be asked of a job."""
    job = app.job(4711)
    asked: list[Callable[[], Any]] = [job.result, job.status, job.cancel, lambda: anext(job.updates())]
    for ask in asked:
        with fail_after(LONG_S), pytest.raises(dtm.NotFound, match="the server has no task 4711"):
            await ask()


async def test_a_status_says_how_a_task_stands(idle: Live) -> None:
    """And what it is."""
    at = datetime.now(UTC) + timedelta(hours=1)
    job = await greet.options(run_at=at, max_retries=7).submit("you")
    status = await job.status()

    assert (status.id, status.kind, status.state, status.max_retries) == (job.id, "greet", "scheduled", 7)
    assert status.next_run_at is not None
    assert abs(status.next_run_at - at) < timedelta(milliseconds=1)


# Options.


async def test_options_travel_with_the_task(idle: Live) -> None:
    """Those of the submission win over those of the decoration."""
    job = await fail.options(priority=5, delay="10s", timeout="3s", key="k1").submit("x")
    task = idle.history(job.id).task

    assert (task.kind, task.state, task.priority, task.max_retries, task.key) == ("fail", "scheduled", 5, 2, "k1")


async def test_the_same_key_is_the_same_task(idle: Live) -> None:
    """With other arguments it is refused."""
    keyed = greet.options(key="k")
    first = await keyed.submit("you")

    assert (await keyed.submit("you")).id == first.id
    assert (await greet.submit("you")).id != first.id
    with pytest.raises(dtm.RequestRefused) as refused:
        await keyed.submit("me")
    assert refused.value.code == "key-conflict"


async def test_a_task_that_is_unique_is_submitted_once_while_it_is_active(live: Live) -> None:
    """For its arguments, however they are written; when it has ended, it may come again."""
    held = single.options(delay="1h")
    first = await held.submit(1)

    assert (await single.submit(1, more=1)).id == first.id
    assert (await single.submit(2)).id != first.id
    await first.cancel()
    again = await single.submit(1)
    assert again.id != first.id
    assert await again.result(LONG_S) == 2


async def test_wrong_arguments_reach_nobody(idle: Live) -> None:
    """They are told where they are submitted."""
    with pytest.raises(dtm.BadArguments, match=r"greet: parameter 'name': expected `str`, got `int`; found 7"):
        await greet.submit(7)  # type: ignore[arg-type]

    with idle.reader() as reader:
        assert reader.newest_tasks(state=None, kind=None, limit=1) == []


async def test_a_task_that_expires_never_runs(idle: Live) -> None:
    """Its submitter is told."""
    job = await greet.options(expires=0.01).submit("you")
    with pytest.raises(dtm.TaskExpired, match=rf"task {job.id} expired"):
        await job.result(LONG_S)


# Cancelling and looking on.


async def test_a_task_that_waits_is_cancelled_at_once(idle: Live) -> None:
    """Whoever waits for it is told."""
    job = await greet.submit("you")

    assert await job.cancel() == "cancelled"
    with pytest.raises(dtm.TaskCancelled, match=rf"task {job.id} was cancelled"):
        await job.result(LONG_S)
    assert await job.cancel() == "cancelled"


async def test_a_task_that_runs_is_stopped(live: Live) -> None:
    """Soon; it ends cancelled."""
    job = await wait.submit(60.0)
    await eventually(lambda: live.state(job.id)[0] == "assigned")

    assert await job.cancel() == "assigned"
    with pytest.raises(dtm.TaskCancelled):
        await job.result(LONG_S)


async def test_what_has_ended_cannot_be_cancelled(live: Live) -> None:
    """Its end came first."""
    job = await greet.submit("you")
    await job.result(LONG_S)

    assert await job.cancel() == "completed"


async def test_updates_tell_of_progress_and_of_the_end(live: Live) -> None:
    """In their order."""
    job = await wait.submit(0.7)
    seen = [update async for update in job.updates()]
    told = [(update.fraction, update.note) for update in seen]

    assert (0.5, "half way") in told
    assert [update.state for update in seen][-2:] == ["assigned", "completed"]
    assert [update async for update in job.updates()][-1].state == "completed"
    assert app.producer._watches._by_id == {}


async def test_updates_tell_of_retries(live: Live) -> None:
    """With the time of the next try."""
    job = await fail.options(retry=dtm.Constant(0.3)).submit("x")
    seen = [update async for update in job.updates()]

    retried = [update for update in seen if update.retry_count == 1 and update.state == "scheduled"]
    assert retried
    assert retried[0].next_run_at is not None
    assert (seen[-1].state, seen[-1].retry_count) == ("dead", 2)


async def test_the_last_update_says_how_the_task_has_ended_to_whoever_comes_late(live: Live) -> None:
    """With its last progress and all its failed attempts, as its status does."""
    done, failed = await wait.submit(0), await fail.submit("x")
    for job in (done, failed):
        async for _ in job.updates():
            pass
    last = [
        [(end.state, end.fraction, end.note, end.retry_count) async for end in job.updates()] for job in (done, failed)
    ]

    assert last == [[("completed", 0.5, "half way", 0)], [("dead", None, "", 2)]]


async def test_updates_tell_that_a_running_task_was_asked_to_stop(idle: Live) -> None:
    """As it is asked, to whoever looks on from then on, and to the end, whatever that is."""
    async with idle.dial() as worker:
        await worker.register("greet")
        job = await greet.submit("you")
        task = await worker.expect("Task")
        updates = job.updates()
        assert not (await anext(updates)).cancel_requested
        assert await job.cancel() == "assigned"
        asked = await anext(updates)
        assert (asked.state, asked.cancel_requested) == ("assigned", True)
        later = job.updates()
        assert await anext(later) == asked
        await worker.say(success(task, "late"))

        ended = dtm.Update("completed", cancel_requested=True)
        assert [update async for update in updates] == [ended]
        assert [update async for update in later] == [ended]


# The connection.


async def test_waiting_survives_a_server_that_is_killed(tmp_path: Path) -> None:
    """And submitting too: what was asked meanwhile is done by the next server, once."""
    async with serving(tmp_path) as live:
        point(app, live.port)
        async with app, create_task_group() as group:
            job = await greet.submit("you")
            results: list[str] = []
            updates: list[str] = []

            async def collect() -> None:
                results.append(await job.result())

            async def look_on() -> None:
                updates.extend([update.state async for update in job.updates()])

            group.start_soon(collect)
            group.start_soon(look_on)
            await eventually(lambda: app.producer._watches[job.id].holders == 2)
            await live.kill()
            more = asyncio.create_task(greet.submit("me"))
            await anyio.sleep(0.05)
            async with serving(tmp_path, port=live.port) as successor, working(successor, app):
                with fail_after(2 * LONG_S):
                    assert await (await more).result() == "hello, me"
                    await eventually(lambda: results and updates, within_s=2 * LONG_S)
                with successor.reader() as reader:
                    assert len(reader.newest_tasks(state=None, kind=None, limit=10)) == 2

    assert results == ["hello, you"]
    assert updates[-1] == "completed"


async def test_an_app_that_is_not_open_says_so() -> None:
    """Before and after it was."""
    with pytest.raises(dtm.NotOpen, match="the app is not open"):
        await greet.submit("you")


async def test_an_app_without_a_server_says_so_at_once() -> None:
    """With the address."""
    with pytest.raises(dtm.Unreachable, match=r"cannot reach 127\.0\.0\.1:1 "):
        async with dtm.App("127.0.0.1:1"):
            pass


async def test_closing_tells_those_who_still_wait(idle: Live) -> None:
    """They do not wait for ever."""
    job = await greet.submit("you")
    waiting = asyncio.create_task(job.result())
    await eventually(lambda: app.producer._watches[job.id].holders == 1)
    await app.aclose()

    with fail_after(LONG_S), pytest.raises(dtm.DtmError, match="the app was closed"):
        await waiting


async def test_an_app_belongs_to_the_loop_that_opened_it(idle: Live) -> None:
    """Another one is told, instead of hanging."""

    def elsewhere() -> None:
        with pytest.raises(dtm.NotOpen, match="opened in another event loop"):
            asyncio.run(greet.submit("you"))

    await anyio.to_thread.run_sync(elsewhere)


async def test_an_app_that_was_opened_twice_is_open_until_it_is_closed_twice(idle: Live) -> None:
    """The second time changes nothing, and the first close neither."""
    producer = app.producer
    async with app:
        assert app.producer is producer

    assert app.producer is producer
    await app.aclose()
    with pytest.raises(dtm.NotOpen):
        await greet.submit("you")


async def test_many_may_open_an_app_at_once_and_close_it_when_they_are_done(live: Live) -> None:
    """As tasks do that submit tasks; whoever is done first takes nobody's connection away."""
    await app.aclose()

    async def greeted(number: int) -> str:
        async with app:
            job = await greet.submit(f"n{number}")
            await anyio.sleep(0.02 * number)
            return await job.result(LONG_S)

    assert await asyncio.gather(*map(greeted, range(5))) == [f"hello, n{number}" for number in range(5)]
    with pytest.raises(dtm.NotOpen, match="the app is not open"):
        await greet.submit("you")


async def test_an_app_that_could_not_be_opened_can_be_opened_later(tmp_path: Path) -> None:
    """Whoever has failed holds nothing; all that tried at once are told."""
    late = dtm.App("127.0.0.1:1")
    failures = await asyncio.gather(late.open(), late.open(), return_exceptions=True)
    assert [type(failure) for failure in failures] == [dtm.Unreachable, dtm.Unreachable]

    async with serving(tmp_path) as live:
        point(late, live.port)
        async with late:
            with pytest.raises(dtm.NotFound):
                await late.job(1).status()


async def test_each_event_loop_has_a_connection_of_its_own(live: Live) -> None:
    """In another thread, and after a loop that has ended with its app left open."""

    async def greeted(name: str) -> str:
        await app.open()
        return await (await greet.submit(name)).result(LONG_S)

    for name in ("first", "second"):
        assert await asyncio.to_thread(asyncio.run, greeted(name)) == f"hello, {name}"
    assert await (await greet.submit("you")).result(LONG_S) == "hello, you"


async def test_snoozing_costs_no_attempt(live: Live) -> None:
    """A task that put itself off is in its first attempt still."""
    job = await tasks_app.snooze_once.submit(time.time() + 0.2)

    assert await job.result(LONG_S) == 1
