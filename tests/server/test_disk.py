"""What a server stands on: room that runs out, files that go away."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from anyio import fail_after
from structlog.testing import capture_logs

from dtm.server.disk import Disk
from dtm.server.limits import Limits
from dtm.storage.errors import StoreGone
from dtm.storage.reader import Reader
from tests.server.live import serving, submission, success
from tests.server.stores import opened
from tests.waiting import LONG_S

MORE_THAN_ANY_DISK_HAS = 2**62


def stand_on(folder: Path, *, min_free: int = 0) -> Disk:
    """Look after the store in `folder`."""
    (folder / "tasks.db.lock").touch()
    return Disk(folder / "tasks.db", folder / "tasks.db.lock", folder, min_free=min_free)


def delete(path: Path) -> None:
    """Delete a file."""
    path.unlink()


def replace(path: Path) -> None:
    """Put a copy in a file's place."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


def rewrite(path: Path) -> None:
    """Move a file away and put a new one there."""
    path.rename(path.with_name("old"))
    path.write_bytes(b"new")


@pytest.mark.parametrize("change", [delete, replace, rewrite])
@pytest.mark.parametrize("ending", ["", "-wal", "-shm", ".lock"])
def test_a_file_that_goes_away_is_noticed(tmp_path: Path, change: Callable[[Path], None], ending: str) -> None:
    """The database, its log and index, and the lock that keeps other servers away."""
    with opened(tmp_path):
        disk = stand_on(tmp_path)
        disk.require_same_files()
        change(tmp_path / f"tasks.db{ending}")

        fate = "deleted" if change is delete else "replaced"
        with pytest.raises(StoreGone, match=rf"tasks\.db{ending}: was {fate} while the server worked on it"):
            disk.require_same_files()


def test_a_database_behind_a_link_is_looked_after_too(tmp_path: Path) -> None:
    """Its log and index lie beside the file itself; a link that leads elsewhere is as good as another file."""
    real = tmp_path / "real"
    real.mkdir()
    with opened(real):
        link = tmp_path / "link.db"
        link.symlink_to(real / "tasks.db")
        disk = Disk(link, real / "tasks.db.lock", tmp_path, min_free=0)
        disk.require_same_files()
        link.unlink()
        link.symlink_to(real / "tasks.db-shm")

        with pytest.raises(StoreGone, match=r"link\.db: was replaced"):
            disk.require_same_files()


def test_writing_and_reading_change_no_file(tmp_path: Path) -> None:
    """Nor do others that look on, or a checkpoint that empties SQLite's log."""
    with opened(tmp_path):
        disk = stand_on(tmp_path)
        with closing(Reader.open(tmp_path / "tasks.db")):
            pass
        with closing(sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            other.execute("VACUUM INTO ?", (str(tmp_path / "backup.db"),))

        disk.require_same_files()


def test_a_low_disk_is_told_once_and_so_is_its_recovery(tmp_path: Path) -> None:
    """Each folder by its name; only the database's keeps tasks away."""
    logs = tmp_path / "logs"
    logs.mkdir()
    disk = Disk(tmp_path / "tasks.db", tmp_path / "tasks.db.lock", logs, min_free=MORE_THAN_ANY_DISK_HAS)
    found = []
    with capture_logs() as events:
        for min_free in (MORE_THAN_ANY_DISK_HAS, MORE_THAN_ANY_DISK_HAS, 0, 0):
            disk._min_free = min_free
            disk.look()
            found.append(disk.is_low)

    assert found == [True, True, False, False]
    assert [(event["event"], event["folder"]) for event in events] == [
        ("disk.low", str(tmp_path)),
        ("disk.low", str(logs)),
        ("disk.recovered", str(tmp_path)),
        ("disk.recovered", str(logs)),
    ]


async def test_on_a_low_disk_tasks_are_refused_and_results_are_taken(tmp_path: Path) -> None:
    """What is there may be finished; that needs little, and frees the memory of clients."""
    async with serving(tmp_path) as live, live.dial() as peer:
        await peer.submit({"kind": "A"})
    async with serving(tmp_path, limits=Limits(min_free_disk=MORE_THAN_ANY_DISK_HAS)) as live, live.dial() as peer:
        await peer.register("A")
        task = await peer.expect("Task")
        await peer.say(submission({"kind": "A"}, ref=5))
        refusal = await peer.expect("Error", code="low-disk", ref=5)
        await peer.say(success(task))
        await peer.expect("ResultResponse", status="accepted")

    assert "are free beside the database" in refusal["message"]


async def test_a_server_whose_database_is_deleted_stops(tmp_path: Path) -> None:
    """At the next check, with the reason; until then it would acknowledge what nobody can ever read."""

    async def fail() -> None:
        async with serving(tmp_path) as live:
            live.settings.db.unlink()
            with fail_after(LONG_S):
                await live.ended.wait()

    with pytest.raises(ExceptionGroup) as failed:
        await fail()

    assert failed.group_contains(StoreGone, match="was deleted while the server worked on it")
