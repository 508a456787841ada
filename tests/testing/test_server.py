"""A test of a user's has a real server for as long as it likes."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

import dtm
from dtm.client.pool.sources import CannotLoad
from dtm.storage.reader import Reader
from dtm.testing import server
from tests.tasks.tasks_app import app, fail, greet, relay, wait
from tests.waiting import LONG_S, in_the_end


def test_a_server_and_a_worker_run(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a database that is gone afterwards, with no thread left behind, and no word but in the log."""
    # What other tests have made of it writes to streams that are closed by now.
    monkeypatch.setattr(logging.getLogger(), "handlers", [caplog.handler])
    caplog.set_level("INFO")
    structlog.reset_defaults()
    before = app.server
    with server(app) as running:
        assert greet.sync.submit("you").result(LONG_S) == "hello, you"
        job = fail.sync.submit("sour")
        with pytest.raises(dtm.TaskFailed):
            job.result(LONG_S)
        assert running.db.exists()
        with pytest.raises(TimeoutError):
            wait.sync.submit(60.0).result(timeout=0.05)

    assert not running.db.parent.exists()
    assert app.server == before
    in_the_end(lambda: "dtm-sync" not in [thread.name for thread in threading.enumerate()])
    assert "".join(capfd.readouterr()) == ""
    assert "event=task.dead" in caplog.text
    assert not structlog.is_configured()


async def test_it_serves_coroutines_too() -> None:
    """From any loop, since its own is in a thread."""
    with server(app):
        async with app:
            assert await (await greet.submit("you")).result(LONG_S) == "hello, you"


def test_without_a_worker_tasks_stay(tmp_path: Path) -> None:
    """So that a test can look at what was submitted; two servers do not disturb each other."""
    own = dtm.App()
    task = own.task(kind="t")(lambda: 1)
    with server(app), server(own, concurrency=0) as running:
        job = task.options(priority=3).sync.submit()
        assert job.status().state == "pending"
        reader = Reader.open(running.db)
        history = reader.history(job.id)
        reader.close()
        assert history is not None
        assert history.task.priority == 3
        assert greet.sync.submit("you").result(LONG_S) == "hello, you"


def test_what_a_test_raises_passes() -> None:
    """As it is, not in a group."""
    with pytest.raises(KeyError, match="mine"), server(app):
        raise KeyError("mine")


def test_a_task_in_a_process_submits_to_that_server_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process imports the app anew, and knows of no context of the test's."""
    monkeypatch.setenv("DTM_SERVER", "127.0.0.1:1")
    with server(app):
        assert relay.sync.submit("you").result(LONG_S) == "hello, you"


def plain(number: int) -> int:
    """Stay a function."""
    return number


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (plain, r"plain at .*test_server:plain, found function without it; give the task the name of its function"),
        (relay.function, r"relay at .*tasks_app:relay, found another; rename one of them"),
    ],
)
def test_a_task_that_no_process_would_find_is_refused_at_once(function: Any, complaint: str) -> None:
    """Its process would look for it by its function's name."""
    own = dtm.App()
    own.task(executor="process")(function)
    with pytest.raises(CannotLoad, match=complaint), server(own):
        pass
    with server(own, concurrency=0):
        pass


def test_the_environment_says_nothing_of_that_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there for a real one, which may want a token and speak TLS."""
    monkeypatch.setenv("DTM_TOKEN_FILE", "none.token")
    monkeypatch.setenv("DTM_TLS_CA", "none.pem")
    with server(app):
        assert greet.sync.submit("you").result(LONG_S) == "hello, you"
