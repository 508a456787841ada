"""An old copy of the store in its place: it is noticed, and what the lost time knew counts for nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from anyio import Event

from dtm.server.app import StopRequest, serve
from dtm.server.audit_log import LogRefused
from dtm.server.machine import this_machine
from dtm.storage.auditfiles import move_aside
from dtm.storage.backup import back_up, restore
from dtm.storage.errors import StoreRefused
from tests.server.live import FAST, failure, serving, success
from tests.wire import Line

NOW = 1_800_000_000_000_000
TASK = {"kind": "A", "payload": 1}


async def live_through(folder: Path, save: Callable[[Path, Path], object]) -> tuple[Line, Line]:
    """Save the store while a task is held, let more happen, and lose the server; give both assignments."""
    async with serving(folder) as live, live.dial() as peer:
        await peer.register("A", capacity=2)
        await peer.submit(TASK)
        before = await peer.expect("Task")
        save(live.settings.db, folder / "saved.db")
        await peer.submit(TASK)
        lost = await peer.expect("Task")
        await live.kill()
    return before, lost


async def results_of(folder: Path, *assigned: Line) -> list[tuple[str, str | None]]:
    """Start a server, let the worker come back with results, and give the verdicts."""
    async with serving(folder) as live, live.dial() as peer:
        await peer.register("A", capacity=0, resume=[task["assignment"] for task in assigned])
        verdicts = [await peer.ask(success(task, "done")) for task in assigned]
        return [(verdict["status"], verdict["state"]) for verdict in verdicts]


async def start(folder: Path) -> None:
    """Start a server that is not expected to get far."""
    settings = msgspec.structs.replace(FAST, db=folder / "tasks.db", dead_letter_log=folder / "dead.log")
    await serve(settings, StopRequest(Event(), Event()), this_machine())


def lose(folder: Path) -> None:
    """Take the store away, as a broken disk does."""
    for path in folder.glob("tasks.db*"):
        path.unlink()


async def test_results_of_the_lost_time_are_stale_after_a_restore(tmp_path: Path) -> None:
    """Those of the time before the backup count."""
    before, lost = await live_through(tmp_path, lambda db, saved: back_up(db, saved, replace=False))
    lose(tmp_path)
    restore(tmp_path / "saved.db", tmp_path / "tasks.db", now=NOW)

    assert await results_of(tmp_path, lost, before) == [("stale", None), ("accepted", "completed")]


async def test_results_of_the_lost_time_are_stale_even_if_nobody_notices(tmp_path: Path) -> None:
    """A copy that some tool made of the files, in a folder that remembers nothing, with the log gone.

    The numbers that it gives out are none of those that the lost time knew.
    """

    def copy(db: Path, saved: Path) -> None:
        back_up(db, saved, replace=False)
        with closing(sqlite3.connect(saved)) as connection:
            connection.execute("PRAGMA user_version = 0")  # the mark of a backup, which nobody else gives

    _, lost = await live_through(tmp_path, copy)
    lose(tmp_path)
    (tmp_path / "dead.log").unlink()
    (tmp_path / "saved.db").rename(tmp_path / "tasks.db")

    async with serving(tmp_path) as live, live.dial() as peer, live.dial() as other:
        await other.register("A", capacity=5, name="other")
        await other.submit(TASK)
        given = await other.expect("Task")
        await peer.register("A", capacity=0, resume=[lost["assignment"]])
        verdict = await peer.ask(success(lost, "lost"))

        assert given["task_id"] == lost["task_id"]
        assert given["assignment"] > lost["assignment"]
        assert (verdict["status"], verdict["state"]) == ("stale", "assigned")


async def test_a_backup_in_the_stores_place_is_noticed(tmp_path: Path) -> None:
    """The server does not start on it, and names the remedy."""
    await live_through(tmp_path, lambda db, saved: back_up(db, saved, replace=False))
    lose(tmp_path)
    (tmp_path / "saved.db").rename(tmp_path / "tasks.db")

    with pytest.raises(StoreRefused, match="is a backup"):
        await start(tmp_path)


async def test_an_older_copy_in_the_stores_place_is_noticed(tmp_path: Path) -> None:
    """One without a mark, by what the folder remembers."""
    async with serving(tmp_path):
        pass
    (tmp_path / "saved.db").write_bytes((tmp_path / "tasks.db").read_bytes())
    async with serving(tmp_path):
        pass
    (tmp_path / "saved.db").replace(tmp_path / "tasks.db")

    with pytest.raises(StoreRefused, match="is older than what last ran here"):
        await start(tmp_path)


async def test_a_log_of_the_lost_time_is_noticed(tmp_path: Path) -> None:
    """By its last line; once it is moved aside, it is written anew from the database."""
    await live_through(tmp_path, lambda db, saved: back_up(db, saved, replace=False))
    async with serving(tmp_path) as live, live.dial() as peer:
        await peer.register("B")
        await peer.submit({"kind": "B"})
        await peer.say(failure(await peer.expect("Task"), retry=False))
        await peer.settled()
    lose(tmp_path)
    restore(tmp_path / "saved.db", tmp_path / "tasks.db", now=NOW)
    with pytest.raises(LogRefused, match="is not in this database"):
        await start(tmp_path)
    move_aside(tmp_path / "dead.log", "lost")
    await results_of(tmp_path)

    (line,) = (tmp_path / "dead.log").read_text().splitlines()
    assert '"event":"restored"' in line
