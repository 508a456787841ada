"""The projector: the log equals the audit rows, whatever happens in between."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from anyio import create_task_group, to_thread
from structlog.testing import capture_logs

from dtm.server.audit_log import MAX_APPEND, AuditLog, LogRefused
from dtm.server.projector import Projector
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
                log.rename(tmp_path / "dead.log.1")
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
        assert lines(tmp_path, "dead.log.1") == rows(tmp_path)[:3]


def test_trouble_with_the_file_is_told_once_and_heals(tmp_path: Path, store: Store) -> None:
    """Tasks go on meanwhile; nothing is lost."""
    log = tmp_path / "dead.log"
    with projecting(tmp_path) as projector, capture_logs() as events:
        log.mkdir()
        projector.start()
        bury(store, 2)
        projector.catch_up()
        projector.catch_up()
        assert projector.position == 0
        log.rmdir()
        projector.catch_up()

        assert lines(tmp_path) == rows(tmp_path)
    assert [event["event"] for event in events] == ["dead-letter-log.trouble", "dead-letter-log.recovered"]


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
