"""Submitting without async: from any thread, over a connection in a thread of the app's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

import dtm
from dtm.client.producer import Closed
from tests.server.live import Live
from tests.tasks.staff import staffed
from tests.tasks.tasks_app import app, fail, greet, wait
from tests.waiting import LONG_S, in_the_end


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A server and a worker, in a thread of their own."""
    options = {"use_uvloop": find_spec("uvloop") is not None}
    with (
        start_blocking_portal("asyncio", options) as portal,
        portal.wrap_async_context_manager(staffed(tmp_path, app)) as live,
    ):
        yield live
        app.close()


def test_a_program_without_async_submits_and_waits(live: Live) -> None:
    """With options and without."""
    assert greet.sync.submit("you").result(LONG_S) == "hello, you"
    assert greet.options(priority=3).sync.submit("me").result() == "hello, me"
    assert greet.sync.options(key="one").submit("all").result() == "hello, all"
    assert greet.sync.options(key="one").submit("all").id == greet.options(key="one").sync.submit("all").id
    assert greet.sync.submit(name="you").result() == "hello, you"
    job = fail.sync.submit("sour")
    with pytest.raises(dtm.TaskFailed, match="sour"):
        job.result(LONG_S)
    assert fail.sync.job(job.id).status().state == "dead"
    with pytest.raises(dtm.BadArguments):
        greet.sync.submit(7)  # type: ignore[arg-type]


def test_many_are_submitted_at_once(live: Live) -> None:
    """Their jobs come in order."""
    jobs = greet.sync.submit_many(f"n{number}" for number in range(50))

    assert [job.result(LONG_S) for job in jobs] == [f"hello, n{number}" for number in range(50)]
    assert (len(jobs), jobs[3].id) == (50, jobs.ids[3])
    assert [job.result(LONG_S) for job in jobs[1:3]] == ["hello, n1", "hello, n2"]


def test_updates_and_cancellation_work_too(live: Live) -> None:
    """Whoever stops looking leaves nothing behind."""
    job = wait.sync.submit(60.0)
    for update in job.updates():
        if update.fraction == 0.5:
            break
    assert job.cancel() == "assigned"
    assert [update.state for update in job.updates()][-1] == "cancelled"
    with pytest.raises(dtm.TaskCancelled):
        job.result(LONG_S)
    with pytest.raises(TimeoutError):
        wait.sync.submit(60.0).result(timeout=0.01)


def test_many_threads_share_the_connection(live: Live) -> None:
    """The first of them opens it, once."""
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda number: greet.sync.submit(f"n{number}").result(LONG_S), range(64)))

    assert results == [f"hello, n{number}" for number in range(64)]
    assert [thread.name for thread in threading.enumerate()].count("dtm-sync") == 1


def test_closing_ends_the_thread_and_the_next_call_begins_anew(live: Live) -> None:
    """As often as one likes."""
    for _ in range(2):
        assert greet.sync.submit("you").result(LONG_S) == "hello, you"
        app.close()
        app.close()
        in_the_end(lambda: "dtm-sync" not in [thread.name for thread in threading.enumerate()])


def test_whoever_races_the_close_is_told_that_the_app_was_closed(live: Live) -> None:
    """Whether it waits already or only begins; and nobody waits for ever."""
    ended: list[BaseException | str] = []
    is_over = threading.Event()

    def submit() -> None:
        while not is_over.is_set():
            try:
                ended.append(greet.sync.submit("you").result(LONG_S))
            except Exception as error:  # noqa: BLE001  whatever it is, it is looked at below
                ended.append(error)

    callers = [threading.Thread(target=submit, daemon=True) for _ in range(4)]
    for caller in callers:
        caller.start()
    for _ in range(30):
        enough = len(ended) + 10
        in_the_end(lambda: len(ended) > enough)  # noqa: B023  it is called here and now
        app.close()
    is_over.set()
    for caller in callers:
        caller.join(LONG_S)
        assert not caller.is_alive()

    errors = [error for error in ended if error != "hello, you"]
    assert errors
    assert all(isinstance(error, dtm.NotOpen | Closed) for error in errors)
    assert all("the app was closed" in str(error) for error in errors)


def test_an_item_that_would_end_the_program_ends_its_submission(live: Live) -> None:
    """Where it was called; the thread that has the connection serves the others on."""

    def items() -> Iterator[str]:
        yield "you"
        raise SystemExit(3)

    with pytest.raises(BaseExceptionGroup) as caught:
        greet.sync.submit_many(items())

    assert caught.group_contains(SystemExit)
    assert greet.sync.submit("you").result(LONG_S) == "hello, you"


async def test_an_event_loop_is_not_held_up() -> None:
    """Its own program would stand still."""
    with pytest.raises(dtm.Blocking, match=r"await task\.submit"):
        greet.sync.submit("you")


def test_a_program_without_a_server_is_told() -> None:
    """At each call, and with no thread left behind."""
    lonely = dtm.App("127.0.0.1:1")
    task = lonely.task(kind="lonely")(lambda: None)
    for _ in range(2):
        with pytest.raises(dtm.Unreachable):
            task.sync.submit()
    assert "dtm-sync" not in [thread.name for thread in threading.enumerate()]


def test_a_program_that_does_not_close_its_app_ends(live: Live) -> None:
    """By itself, without a word on standard error."""
    program = f"""
import dtm
app = dtm.App("127.0.0.1:{live.port}")
@app.task
def greet(name: str) -> str: ...
print(greet.sync.submit("you").result(30))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "hello, you\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="wants os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_opens_a_connection_of_its_own(live: Live) -> None:
    """The thread that had its parent's is not there; its parent goes on with it."""
    job = greet.sync.submit("you")
    child = os.fork()
    if child == 0:
        signal.alarm(int(LONG_S))
        try:
            results = job.result(), greet.sync.submit("me").result()
            app.close()
            os._exit(0 if results == ("hello, you", "hello, me") else 1)
        finally:
            os._exit(2)

    assert os.waitpid(child, 0)[1] == 0
    assert greet.sync.submit("all").result(LONG_S) == "hello, all"
