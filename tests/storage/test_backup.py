"""A copy of the store, and the way back: nothing is half there, and no number comes again."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dtm.core import auditline
from dtm.storage.backup import Restored, back_up, restore
from dtm.storage.batch import NewTask, Success
from dtm.storage.errors import StoreMissing, StoreRefused
from dtm.storage.inspect import is_backup
from dtm.storage.migrate import prepare
from dtm.storage.reader import Reader
from dtm.storage.schema import REVISION
from tests.storage.stage import NOON, Stage, open_store, what_is_wrong

ADD = NewTask("add", "1")
LATER = NOON + 3_600 * 1_000_000


@pytest.fixture
def backup(stage: Stage) -> Path:
    """Where the backup of the stage's store goes."""
    return stage.path.parent / "backup.db"


def put_back(stage: Stage, backup: Path, *, now: int = LATER) -> Restored:
    """Lose the stage's store, and restore the backup in its place."""
    stage.close()
    for end in ("", "-wal", "-shm"):
        stage.path.with_name(stage.path.name + end).unlink(missing_ok=True)
    return restore(backup, stage.path, now=now)


# --- backed up -------------------------------------------------------------------------------------------------


def test_a_backup_is_whole_and_one_file(stage: Stage, backup: Path) -> None:
    """Also what is only in the write-ahead log of a server that works is in it."""
    stage.bury(ADD, ADD)
    stage.submit(ADD)
    size = back_up(stage.path, backup, replace=False)

    assert what_is_wrong(backup) == {}
    assert size == backup.stat().st_size
    assert [path.name for path in backup.parent.glob("backup*")] == ["backup.db"]
    with closing(Reader.open(backup)) as reader, closing(Reader.open(stage.path)) as original:
        assert reader.tasks_by_id([1, 2, 3]) == original.tasks_by_id([1, 2, 3])


@pytest.mark.parametrize("umask", [0, 0o022])
def test_a_backup_is_its_owners_alone(stage: Stage, backup: Path, umask: int) -> None:
    """The payloads in it are as secret as in the store."""
    old = os.umask(umask)
    try:
        back_up(stage.path, backup, replace=False)
    finally:
        os.umask(old)

    assert backup.stat().st_mode & 0o777 == 0o600


def test_a_backup_does_not_wait_for_the_writer_nor_the_writer_for_it(stage: Stage, backup: Path) -> None:
    """It is what was committed when it began, whatever is under way."""
    stage.submit(ADD)
    with closing(sqlite3.connect(stage.path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM tasks")
        back_up(stage.path, backup, replace=False)
        writer.execute("ROLLBACK")
    stage.submit(ADD)

    with closing(Reader.open(backup)) as reader:
        assert [task is not None for task in reader.tasks_by_id([1, 2])] == [True, False]


def test_only_a_backup_is_replaced_and_only_when_told(stage: Stage, backup: Path) -> None:
    """A slip of the hand must cost nobody a file, least of all the database itself."""
    back_up(stage.path, backup, replace=False)
    first = backup.read_bytes()
    stage.submit(ADD)

    with pytest.raises(StoreRefused, match="is there already; name another file, or let --force"):
        back_up(stage.path, backup, replace=False)
    assert backup.read_bytes() == first
    back_up(stage.path, backup, replace=True)
    assert backup.read_bytes() != first


def _link(path: Path) -> None:
    path.symlink_to(path.with_name("tasks.db"))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("diary.txt", lambda path: path.write_text("Dear diary\n" * 100)),
        ("empty", lambda path: path.touch()),
        ("other.db", prepare),
        ("tasks.db", lambda _: None),
        ("tasks.db-wal", lambda _: None),
        ("link.db", _link),
        ("folder", lambda path: path.mkdir()),
    ],
)
def test_whatever_else_stands_there_is_left_alone(stage: Stage, name: str, make: object) -> None:
    """Even when told to replace; another store, too, is no backup."""
    target = stage.path.with_name(name)
    stage.submit(ADD)
    assert callable(make)
    make(target)
    before = None if target.is_dir() else target.read_bytes()

    with pytest.raises(StoreRefused, match=r"is no backup|is a symbolic link"):
        back_up(stage.path, target, replace=True)
    assert target.is_dir() or target.read_bytes() == before


def test_a_backup_that_cannot_be_made_leaves_nothing(stage: Stage) -> None:
    """And says what is in the way."""
    with pytest.raises(StoreRefused, match=r"cannot be created .*check that its folder exists"):
        back_up(stage.path, stage.path.parent / "nowhere" / "backup.db", replace=False)


def test_of_nothing_there_is_no_backup(tmp_path: Path) -> None:
    """Nor is a store made for it."""
    with pytest.raises(StoreMissing):
        back_up(tmp_path / "absent.db", tmp_path / "backup.db", replace=False)
    assert list(tmp_path.iterdir()) == []


def test_nobody_works_on_a_backup(stage: Stage, backup: Path) -> None:
    """Copied into the database's place it would give numbers out again; it can be looked at, though."""
    back_up(stage.path, backup, replace=False)
    before = backup.read_bytes()

    for opener in (prepare, open_store):
        with pytest.raises(StoreRefused, match=rf"is a backup.* dtm-admin restore NAME --db {backup}"):
            opener(backup)
    assert backup.read_bytes() == before
    assert is_backup(backup)
    assert not is_backup(stage.path)


# --- put back --------------------------------------------------------------------------------------------------


def test_a_restored_store_is_as_it_was(stage: Stage, backup: Path) -> None:
    """The backup itself stays as it is, for the next time."""
    stage.bury(ADD)
    stage.submit(ADD)
    back_up(stage.path, backup, replace=False)
    before = backup.read_bytes()
    stage.submit(ADD)
    put_back(stage, backup)

    with closing(Reader.open(stage.path)) as reader:
        assert [task and task.state for task in reader.tasks_by_id([1, 2, 3])] == ["dead", "pending", None]
    assert what_is_wrong(stage.path) == {}
    assert backup.read_bytes() == before
    assert stage.path.stat().st_mode & 0o777 == 0o600


def test_no_number_of_the_lost_time_comes_again(stage: Stage, backup: Path) -> None:
    """Neither that of a task, nor of an assignment, nor of a client, nor of a line, and not after a second loss."""
    given: dict[str, set[int]] = {"tasks": set(), "assignments": set(), "clients": set(), "audit": set()}
    stage.bury(ADD)
    back_up(stage.path, backup, replace=False)
    old = {table: {n for (n,) in stage.sql(f"SELECT rowid FROM {table}")} for table in given}
    for life in range(3):
        if life:
            put_back(stage, backup, now=LATER + life * 1_000_000)
            stage.store = open_store(stage.path)
        for _ in range(3):
            stage.bury(ADD)
        for table in tuple(given):
            now = {n for (n,) in stage.sql(f"SELECT rowid FROM {table}")} - old[table]
            assert now, table
            assert not now & given[table], table
            given[table] |= now


def test_a_result_of_the_lost_time_is_stale_and_one_from_before_still_counts(stage: Stage, backup: Path) -> None:
    """What was assigned when the backup was made is assigned in it, too."""
    (before,) = stage.start(ADD)
    back_up(stage.path, backup, replace=False)
    (lost,) = stage.start(ADD)
    put_back(stage, backup)
    stage.store = open_store(stage.path)

    verdicts = [stage.report(assigned, Success("1")) for assigned in (lost, before, lost)]
    assert [verdict.accepted for verdict in verdicts] == [False, True, False]


def test_the_audit_tells_of_it(stage: Stage, backup: Path) -> None:
    """The chain goes on from the last line of the backup."""
    stage.bury(ADD)
    (store,) = stage.sql("SELECT store_id FROM meta")[0]
    back_up(stage.path, backup, replace=False)
    stage.bury(ADD)
    done = put_back(stage, backup)
    first, told = (line for (line,) in stage.sql("SELECT line FROM audit ORDER BY seq"))
    fields = json.loads(told)

    assert (fields["event"], fields["was"], fields["after"], fields["store"]) == ("restored", store, 1, done.store)
    assert fields["prev"] == auditline.digest(first)
    assert stage.sql("SELECT store_id FROM meta") == [(done.store,)]
    assert done.store != store


def test_nothing_is_overwritten_by_a_restore(stage: Stage, backup: Path) -> None:
    """The database that stands there may be the better one; its write-ahead log alone is part of it, too."""
    stage.submit(ADD)
    back_up(stage.path, backup, replace=False)
    with pytest.raises(
        StoreRefused, match=r"is there already; move it away first \(tasks.db, tasks.db-wal, tasks.db-shm"
    ):
        restore(backup, stage.path, now=LATER)
    stage.path.rename(stage.path.with_name("moved.db"))

    with pytest.raises(StoreRefused, match=r"tasks\.db-wal: is left of a database that is gone"):
        restore(backup, stage.path, now=LATER)
    assert not stage.path.exists()
    stage.path.with_name("moved.db").rename(stage.path)


def test_a_damaged_backup_is_not_put_in_place(stage: Stage, backup: Path) -> None:
    """Whatever can be found is found before the store stands there."""
    stage.submit(*[NewTask("add", f'"{"x" * 1_000}"')] * 200)
    back_up(stage.path, backup, replace=False)
    with backup.open("r+b") as file:
        file.seek(backup.stat().st_size // 2)
        file.write(b"\xff" * 20_000)

    with pytest.raises(StoreRefused, match=r"backup\.db: is damaged \(database disk image is malformed"):
        restore(backup, stage.path.with_name("restored.db"), now=LATER)
    assert list(stage.path.parent.glob("restored*")) == []


def test_an_older_backup_is_migrated_on_the_way(stage: Stage, backup: Path) -> None:
    """One without a mark, which another tool has made, serves as well."""
    back_up(stage.path, backup, replace=False)
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("PRAGMA user_version = 0")
    put_back(stage, backup)

    assert stage.sql("SELECT version_num FROM alembic_version") == [(REVISION,)]


# --- noticed ---------------------------------------------------------------------------------------------------


def copied(stage: Stage) -> Path:
    """Copy the closed store as any tool may."""
    stage.close()
    copy = stage.path.with_name("copy.db")
    copy.write_bytes(stage.path.read_bytes())
    return copy


def test_an_older_copy_in_the_stores_place_is_noticed(stage: Stage) -> None:
    """Without the mark of a backup: the folder remembers how often the store was opened."""
    copy = copied(stage)
    open_store(stage.path).close()
    copy.replace(stage.path)
    before = stage.path.read_bytes()

    with pytest.raises(StoreRefused, match=r"is older than what last ran here .* dtm-admin restore NAME --db"):
        open_store(stage.path)
    assert stage.path.read_bytes() == before


def test_an_older_copy_that_was_restored_is_welcome(stage: Stage) -> None:
    """The remedy works, and what was lost is noticed if it comes back after that."""
    copy = copied(stage)
    open_store(stage.path).close()
    lost = stage.path.rename(stage.path.with_name("lost.db"))
    put_back(stage, copy)
    open_store(stage.path).close()
    open_store(stage.path).close()

    assert stage.sql("SELECT epoch FROM meta") > [(1,)]
    assert lost.exists()


def test_a_newer_state_or_another_store_is_no_older_one(stage: Stage) -> None:
    """After a crash the folder may remember an earlier opening; and a new store may take an old one's place."""
    memory = stage.path.with_name("tasks.db.epoch")
    earlier = memory.read_bytes()
    for content in (earlier, b"", b"{", b'{"store":"x","epoch":99}', b'{"store":1}'):
        stage.close()
        memory.write_bytes(content)
        stage.store = open_store(stage.path)

        assert json.loads(memory.read_bytes())["epoch"] == stage.sql("SELECT epoch FROM meta")[0][0]


def test_a_memory_that_cannot_be_written_stops_nobody(stage: Stage) -> None:
    """On a full disk there are still results to take."""
    stage.close()
    stage.path.with_name("tasks.db.epoch.new").mkdir()

    stage.store = open_store(stage.path)


def test_fencing_numbers_begin_above_what_the_opener_says(stage: Stage) -> None:
    """A server says what its clock says; so an unnoticed copy gives no number out again."""
    stage.start(ADD)
    stage.close()
    stage.store = open_store(stage.path, numbers_above=NOON)
    (first,) = stage.start(ADD)
    stage.close()
    stage.store = open_store(stage.path, numbers_above=NOON - 1_000_000)
    (second,) = stage.start(ADD)

    assert (first.assignment_id, second.assignment_id) == (NOON + 1, NOON + 2)


@pytest.mark.parametrize("end", ["-wal", "-journal"])
def test_no_store_is_made_beside_the_log_of_another(tmp_path: Path, end: str) -> None:
    """SQLite would take its pages for the new store's."""
    left = tmp_path / f"tasks.db{end}"
    left.write_bytes(b"pages")

    with pytest.raises(StoreRefused, match=rf"tasks.db{end}: is left of a database that is gone"):
        prepare(tmp_path / "tasks.db")
    assert [path.name for path in tmp_path.iterdir()] == [left.name]
