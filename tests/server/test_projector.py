"""The projector: the log equals the audit rows, whatever happens in between."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from anyio import create_task_group, to_thread
from structlog.testing import capture_logs

from dtm.server.audit_log import AuditLog, LogRefused
from dtm.server.projector import Projector
from dtm.storage.auditfiles import MAX_APPEND, rotated
from dtm.storage.reader import Reader
from dtm.storage.store import Store
from tests.server.live import furnish
from tests.server.stores import bury, opened
from tests.waiting import eventually


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with opened(tmp_path) as store:
        yield store


@contextmanager
def projecting(folder: Path, name: str = "dead.log") -> Iterator[Projector]:
    """Make a projector of the store in `folder`, as a server that starts does."""
    with closing(Reader.open(furnish(folder))) as reader, closing(AuditLog(folder / name)) as file:
        yield Projector(reader, file, to_thread.run_sync)


def rows(folder: Path) -> list[str]:
    """Give the lines that the log is to have."""
    with closing(Reader.open(folder / "tasks.db")) as reader:
        return [line.line for line in reader.audit_lines(after=0, limit=100_000)]


def lines(folder: Path, name: str = "dead.log") -> list[str]:
    """Give the lines that the log has."""
    return (folder / name).read_text().splitlines()


def test_the_log_follows_the_rows(tmp_path: Path, store: Store) -> None:
    """Whatever is new since the last time is appended, once."""
    with projecting(tmp_path) as projector:
        projector.start()
        assert (projector.position, lines(tmp_path)) == (0, [])
        for count in (1, 5, 2):
            bury(store, count)
            projector.catch_up()
            projector.catch_up()

            assert lines(tmp_path) == rows(tmp_path)
    assert projector.position == 8


def test_a_crash_at_any_point_leaves_no_gap_and_no_repetition(tmp_path: Path, store: Store) -> None:
    """Between commit and append, in the midst of it, or after it: the next start makes the log whole.

    A crash can leave any beginning of what was being appended, so that every length of it is tried.
    """
    bury(store, 2)
    with projecting(tmp_path) as projector:
        projector.start()
    before = (tmp_path / "dead.log").read_bytes()
    bury(store)
    whole = before + "".join(f"{line}\n" for line in rows(tmp_path)[2:]).encode()

    with closing(Reader.open(tmp_path / "tasks.db")) as reader:
        for length in range(len(before), len(whole) + 1):
            (tmp_path / "dead.log").write_bytes(whole[:length])
            with closing(AuditLog(tmp_path / "dead.log")) as file:
                Projector(reader, file, to_thread.run_sync).start()
            assert (tmp_path / "dead.log").read_bytes() == whole


def test_many_large_lines_are_appended_in_bounded_pieces(tmp_path: Path, store: Store) -> None:
    """A crash damages the last piece at most."""
    for _ in range(4):
        bury(store, 400, payload=f'"{"x" * 2_000}"')
    with projecting(tmp_path) as projector:
        projector.start()

    assert lines(tmp_path) == rows(tmp_path)
    assert (tmp_path / "dead.log").stat().st_size > 3 * MAX_APPEND


def test_another_stores_log_is_refused_at_the_start(tmp_path: Path, store: Store) -> None:
    """It would be continued with what never followed it; the file stays as it is."""
    (tmp_path / "other").mkdir()
    with opened(tmp_path / "other") as other:
        bury(other, 3, payload='"other"')
        with projecting(tmp_path / "other") as projector:
            projector.start()
    foreign = (tmp_path / "other" / "dead.log").read_bytes()
    (tmp_path / "dead.log").write_bytes(foreign)

    for count in (0, 3, 1):
        if count:
            bury(store, count)
        with projecting(tmp_path) as projector, pytest.raises(LogRefused, match=r"its last line, number 3, is not in"):
            projector.start()
    assert (tmp_path / "dead.log").read_bytes() == foreign


def test_a_log_ahead_of_the_store_is_refused(tmp_path: Path, store: Store) -> None:
    """The database was restored from a backup; which of the two is right is for a person to say."""
    bury(store)
    backup = tmp_path / "backup"
    backup.mkdir()
    with closing(sqlite3.connect(tmp_path / "tasks.db")) as connection:
        connection.execute("VACUUM INTO ?", [str(backup / "tasks.db")])
    bury(store)
    with projecting(tmp_path) as projector:
        projector.start()
    (tmp_path / "dead.log").rename(backup / "dead.log")

    with projecting(backup) as projector, pytest.raises(LogRefused, match="number 2"):
        projector.start()


@pytest.mark.parametrize("as_what", ["deleted", "moved", "emptied", "cut", "spoilt"])
def test_a_log_that_somebody_touched_is_made_whole_again(tmp_path: Path, store: Store, as_what: str) -> None:
    """With the next look, while the server runs."""
    log = tmp_path / "dead.log"
    bury(store, 3)
    with projecting(tmp_path) as projector:
        projector.start()
        match as_what:
            case "deleted":
                log.unlink()
            case "moved":
                log.rename(tmp_path / "old.log")
            case "emptied":
                log.write_bytes(b"")
            case "cut":
                os.truncate(log, log.stat().st_size - 5)
            case "spoilt":
                with log.open("a") as file:
                    file.write("a note\n")
        projector.catch_up()

        assert lines(tmp_path) == rows(tmp_path)
        bury(store, 2)
        projector.catch_up()
        assert lines(tmp_path) == rows(tmp_path)
    if as_what == "moved":
        assert lines(tmp_path, "old.log") == rows(tmp_path)[:3]


def test_trouble_with_the_file_is_told_once_and_heals(tmp_path: Path, store: Store) -> None:
    """Tasks go on meanwhile; nothing is lost."""
    log = tmp_path / "dead.log"
    with projecting(tmp_path) as projector, capture_logs() as events:
        projector.start()
        log.unlink()
        log.mkdir()
        bury(store, 2)
        projector.catch_up()
        projector.catch_up()
        assert projector.position == 0
        log.rmdir()
        projector.catch_up()

        assert lines(tmp_path) == rows(tmp_path)
    assert [event["event"] for event in events] == ["dead-letter-log.trouble", "dead-letter-log.recovered"]


@pytest.mark.parametrize("path", ["nowhere/dead.log", "file/dead.log", "folder", "x" * 300])
def test_a_path_that_is_a_mistake_is_refused_at_the_start(tmp_path: Path, store: Store, path: str) -> None:
    """Somebody has just typed it and still looks; a server that runs already would go on and wait for the repair."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    with (
        projecting(tmp_path, path) as projector,
        pytest.raises(LogRefused, match=r"cannot be opened \(.*check the path"),
    ):
        projector.start()
    assert not (tmp_path / "nowhere").exists()


def test_a_disk_that_fails_is_no_reason_not_to_start(tmp_path: Path, store: Store) -> None:
    """Such trouble heals by itself, and the tasks do not wait for it."""
    bury(store)
    (tmp_path / "dead.log").write_bytes(b"")
    with projecting(tmp_path) as projector, capture_logs() as events:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # EFBIG, as a full disk is ENOSPC
        try:
            projector.start()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [event["event"] for event in events] == ["dead-letter-log.trouble"]
        projector.catch_up()

        assert lines(tmp_path) == rows(tmp_path)


def test_a_foreign_file_that_takes_the_logs_place_is_left_alone(tmp_path: Path, store: Store) -> None:
    """A server that runs tells of it and goes on; it does not write into what is not its own."""
    log = tmp_path / "dead.log"
    with projecting(tmp_path) as projector, capture_logs() as events:
        projector.start()
        log.unlink()
        log.write_text("Dear diary\n")
        bury(store)
        projector.catch_up()
        assert log.read_text() == "Dear diary\n"
        log.unlink()
        projector.catch_up()

        assert lines(tmp_path) == rows(tmp_path)
    assert len(events) == 2


# --- rotated ---------------------------------------------------------------------------------------------------


def all_lines(folder: Path) -> list[str]:
    """Give the lines of the whole log, the rotated files first."""
    files = [*rotated(folder / "dead.log"), folder / "dead.log"]
    return [line for file in files if file.exists() for line in file.read_text().splitlines()]


def rotate(projector: Projector) -> None:
    """Rotate the log now."""
    projector.rotate()
    projector.catch_up()


def test_a_rotated_log_goes_on_in_a_new_file(tmp_path: Path, store: Store) -> None:
    """The name says how far the old file goes, and line follows line across files, also after a restart."""
    for count in (1, 2):
        bury(store, count)
        with projecting(tmp_path) as projector:
            projector.start()
            rotate(projector)

            assert lines(tmp_path) == []
            bury(store)
            projector.catch_up()
    bury(store)
    with projecting(tmp_path) as projector:
        projector.start()

        assert projector.position == 6
    assert [file.name[-2:] for file in rotated(tmp_path / "dead.log")] == ["01", "04"]
    assert all_lines(tmp_path) == rows(tmp_path)
    assert lines(tmp_path) == rows(tmp_path)[4:]


def test_a_log_is_brought_up_to_date_before_it_is_rotated(tmp_path: Path, store: Store) -> None:
    """What was committed before the signal is in the file that is put aside."""
    with projecting(tmp_path) as projector:
        projector.start()
        bury(store, 3)
        rotate(projector)

    assert (all_lines(tmp_path), lines(tmp_path)) == (rows(tmp_path), [])


def test_an_empty_log_is_not_rotated(tmp_path: Path, store: Store) -> None:
    """Nor does a second signal put aside what the first has just begun."""
    with projecting(tmp_path) as projector:
        projector.start()
        rotate(projector)
        assert rotated(tmp_path / "dead.log") == []
        bury(store)
        for _ in range(3):
            rotate(projector)

        assert len(rotated(tmp_path / "dead.log")) == 1


@pytest.mark.parametrize("name", ["dead.log.1", "dead.log-20261124"])
def test_what_somebody_else_rotated_counts_too(tmp_path: Path, store: Store, name: str) -> None:
    """Under the names that logrotate gives, while the server runs and while it does not."""
    for count in (3, 2):
        bury(store, count)
        with projecting(tmp_path) as projector:
            projector.start()
            (tmp_path / name).unlink(missing_ok=True)
            (tmp_path / "dead.log").rename(tmp_path / name)
            bury(store)
            projector.catch_up()

            assert lines(tmp_path) == rows(tmp_path)[-1:]
        (tmp_path / "dead.log").rename(tmp_path / name)
    with projecting(tmp_path) as projector:
        projector.start()

        assert (projector.position, lines(tmp_path)) == (7, [])


@pytest.mark.parametrize("is_left", ["empty", "deleted"])
def test_a_current_file_that_was_lost_is_written_again_from_where_the_rotated_one_ends(
    tmp_path: Path, store: Store, is_left: str
) -> None:
    """Only if no rotated file is left is the whole log written anew."""
    log = tmp_path / "dead.log"
    bury(store, 3)
    with projecting(tmp_path) as projector:
        projector.start()
        rotate(projector)
        bury(store, 2)
        projector.catch_up()
        log.write_bytes(b"") if is_left == "empty" else log.unlink()
        projector.catch_up()
        assert (all_lines(tmp_path), lines(tmp_path)) == (rows(tmp_path), rows(tmp_path)[3:])
        for file in (log, *rotated(log)):
            file.unlink()
        projector.catch_up()

    assert lines(tmp_path) == rows(tmp_path)


def test_another_stores_rotated_file_is_refused_and_named(tmp_path: Path, store: Store) -> None:
    """An empty file beside it would be continued with what never followed."""
    (tmp_path / "other").mkdir()
    with opened(tmp_path / "other") as other:
        bury(other, 3, payload='"other"')
        with projecting(tmp_path / "other") as projector:
            projector.start()
    (tmp_path / "other" / "dead.log").rename(tmp_path / "dead.log.0003")
    bury(store, 3)

    with (
        projecting(tmp_path) as projector,
        pytest.raises(LogRefused, match=r"dead\.log\.0003: its last line, number 3"),
    ):
        projector.start()


def test_trouble_with_a_rotation_heals(tmp_path: Path, store: Store) -> None:
    """It is tried again until it works; lines are not lost meanwhile."""
    log = tmp_path / "dead.log"
    with projecting(tmp_path) as projector, capture_logs() as events:
        projector.start()
        bury(store)
        projector.catch_up()
        log.unlink()
        log.mkdir()
        rotate(projector)
        assert [event["event"] for event in events] == ["dead-letter-log.trouble"]
        log.rmdir()
        bury(store)
        projector.catch_up()

        assert (all_lines(tmp_path), lines(tmp_path)) == (rows(tmp_path), [])
        assert len(rotated(log)) == 1


_DIE_ROTATING = """
import os, signal, sys
from contextlib import closing
from pathlib import Path
from anyio import to_thread
from dtm.server.audit_log import AuditLog
from dtm.server.projector import Projector
from dtm.storage.reader import Reader

folder, steps = Path(sys.argv[1]), int(sys.argv[2])

def count(event, arguments):
    global steps
    if event in ("open", "os.rename", "os.truncate", "os.listdir", "os.scandir") and armed:
        steps -= 1
        if steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)

armed = False
sys.addaudithook(count)
with closing(Reader.open(folder / "tasks.db")) as reader, closing(AuditLog(folder / "dead.log")) as file:
    projector = Projector(reader, file, to_thread.run_sync)
    projector.start()
    projector.rotate()
    armed = True
    projector.catch_up()
    armed = False
"""


def test_a_kill_at_any_step_of_a_rotation_leaves_the_log_whole(tmp_path: Path, store: Store) -> None:
    """Before the rename, between it and the new file, and after: the next start finds where the log stands."""
    steps, killed = 0, True
    while killed:
        bury(store, 2)
        ended = subprocess.run([sys.executable, "-c", _DIE_ROTATING, str(tmp_path), str(steps)], check=False)
        killed, steps = ended.returncode == -signal.SIGKILL, steps + 1
        assert killed or ended.returncode == 0
        bury(store)
        with projecting(tmp_path) as projector:
            projector.start()

        assert all_lines(tmp_path) == rows(tmp_path), steps
        for file in tmp_path.glob("dead.log*"):
            file.unlink()
    assert steps > 3


async def test_it_writes_when_woken_and_tells_how_far_it_is(tmp_path: Path, store: Store) -> None:
    """At once, from a task of its own."""
    moved: list[int] = []
    with projecting(tmp_path) as projector:
        projector.start()
        async with create_task_group() as group:
            group.start_soon(projector.run, moved.append)
            for count in (2, 1):
                bury(store, count)
                projector.wake()
                await eventually(lambda: projector.position == len(rows(tmp_path)), within_s=0.9)
            await eventually(lambda: moved == [2, 3])
            group.cancel_scope.cancel()

    assert lines(tmp_path) == rows(tmp_path)
