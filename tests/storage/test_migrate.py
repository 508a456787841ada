"""What may stand at the path of a store, and what is made of it; whatever is refused stays as it was."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import Engine, event

from dtm.storage import migrate
from dtm.storage.errors import StoreMissing, StoreRefused
from dtm.storage.inspect import require_current, revision_of
from dtm.storage.migrate import prepare
from dtm.storage.reader import Reader
from dtm.storage.schema import APPLICATION_ID, REVISION
from tests.storage.stage import Stage, open_store, what_is_wrong

Opener = Callable[[Path], object]

# Everything that opens a store. Whatever they open they would have to close again.
OPENERS: dict[str, Opener] = {"prepare": prepare, "store": open_store, "reader": Reader.open}

every_opener = pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS.keys())


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Where a store may be."""
    return tmp_path / "tasks.db"


@contextmanager
def change(path: Path) -> Iterator[sqlite3.Connection]:
    """Change a database behind dtm's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def beside(path: Path) -> list[str]:
    """List what lies in the folder of a database."""
    return sorted(found.name for found in path.parent.iterdir())


# --- created ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_missing_store_is_made_for_its_owner_alone(db: Path, umask: int) -> None:
    """Payloads are nobody else's business, whatever the umask; SQLite's other files follow suit."""
    old = os.umask(umask)
    try:
        how = prepare(db)
        with closing(open_store(db)):
            modes = {path.name: path.stat().st_mode & 0o777 for path in db.parent.iterdir()}
    finally:
        os.umask(old)

    assert how == "created"
    files = ("tasks.db", "tasks.db-wal", "tasks.db-shm", "tasks.db.epoch")
    assert modes == dict.fromkeys(files, 0o600)


def test_a_store_that_was_made_is_whole_and_alone(db: Path) -> None:
    """Everything is in the one file: nothing of the making is left beside it."""
    prepare(db)

    assert beside(db) == ["tasks.db"]
    assert revision_of(db) == REVISION
    assert what_is_wrong(db) == {}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="this Python cannot tell SQLite to guard its schema")
def test_a_sqlite_that_guards_its_schema_makes_a_store_too(db: Path) -> None:
    """Some systems build it so; the migration that widens a rule says that it may."""

    def guard(connection: Any, _: object) -> None:
        connection.setconfig(getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE"), True)  # noqa: B009  unknown to 3.11

    event.listen(Engine, "connect", guard)
    try:
        how = prepare(db)
    finally:
        event.remove(Engine, "connect", guard)

    assert how == "created"
    assert what_is_wrong(db) == {}


def test_what_a_crash_left_of_the_making_is_replaced(db: Path) -> None:
    """Half a database, its log, and a link that leads elsewhere do not end up in the new store."""
    target = db.parent / "precious"
    target.write_bytes(b"precious")
    (db.parent / "tasks.db.new").symlink_to(target)
    for end in ("-wal", "-shm", "-journal"):
        (db.parent / f"tasks.db.new{end}").write_bytes(b"left by a crash" * 1_000)
    how = prepare(db)

    assert how == "created"
    assert beside(db) == ["precious", "tasks.db"]
    assert target.read_bytes() == b"precious"
    assert what_is_wrong(db) == {}


@pytest.mark.parametrize("path", ["nowhere/tasks.db", "file/tasks.db"])
def test_where_there_is_no_folder_no_store_is_made(tmp_path: Path, path: str) -> None:
    """The folder is not made up either: the path may be a slip."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreRefused, match=r"folder|path"):
        prepare(tmp_path / path)
    assert beside(tmp_path / "file") == ["file"]


def test_what_cannot_be_made_leaves_nothing_at_the_path(db: Path) -> None:
    """The next start makes it anew."""
    (db.parent / "tasks.db.new").mkdir()

    with pytest.raises(StoreRefused, match="cannot be created"):
        prepare(db)
    assert not db.exists()


_ON_SMALL_DISKS = """
import subprocess, sys
from pathlib import Path
from dtm.storage.errors import StoreRefused
from dtm.storage.inspect import revision_of
from dtm.storage.migrate import prepare

folder = Path(sys.argv[1])
for kib in range(48, 272, 8):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", folder], check=True)
    path = folder / "tasks.db"
    try:
        print(prepare(path), revision_of(path))
    except StoreRefused as error:
        print("left behind" if path.exists() else "refused", error)
    subprocess.run(["umount", folder], check=True)
"""
_UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


def _can_mount() -> bool:
    try:
        return subprocess.run([*_UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not _can_mount(), reason="needs a system that lets it mount in a namespace of its own")
def test_a_disk_too_small_for_a_store_gets_none(db: Path) -> None:
    """Of whatever size: either the store is whole, or nothing stands at the path and the reason is named."""
    run = subprocess.run(
        [*_UNSHARE, sys.executable, "-c", _ON_SMALL_DISKS, str(db.parent)], capture_output=True, text=True, check=True
    )
    outcomes = run.stdout.splitlines()
    refusals = [line for line in outcomes if line != f"created {REVISION}"]

    assert 0 < len(refusals) < len(outcomes)
    assert all(line.startswith(f"refused {db}: cannot be created (") and "room" in line for line in refusals)


# --- opened ----------------------------------------------------------------------------------------------------


def test_a_store_of_this_version_is_opened_as_it_is(db: Path) -> None:
    """Looking at it writes nothing, and it says that there was nothing to do."""
    prepare(db)
    before = db.read_bytes()

    assert prepare(db) == "opened"
    assert db.read_bytes() == before


def test_a_store_is_opened_beside_a_server_that_works_on_it(db: Path) -> None:
    """Part of what is committed may be in the write-ahead log alone."""
    stage = Stage(db)
    stage.bury()
    with closing(Reader.open(db)) as reader:
        seen = reader.tasks_by_id([1])[0]
    stage.close()

    assert seen is not None
    assert seen.state == "dead"


def test_a_store_is_found_through_a_link(db: Path) -> None:
    """SQLite keeps the log beside the file, not beside the link, and so must whoever looks for it."""
    stage = Stage(db)
    (db.parent / "links").mkdir()
    link = db.parent / "links" / "link.db"
    link.symlink_to(db)
    stage.bury()

    assert prepare(link) == "opened"
    stage.close()


# --- refused ---------------------------------------------------------------------------------------------------


def _empty(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_text("Dear diary,\n" * 1_000)


def _foreign(path: Path) -> None:
    with change(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")


def _foreign_with_log(path: Path) -> None:
    with change(path) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE songs (title TEXT)")


def _foreign_with_alembic(path: Path) -> None:
    with change(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")


def _cut_to(size: int) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        prepare(path)
        os.truncate(path, size if size > 0 else path.stat().st_size + size)

    return cut


def _overwritten(at: int, content: bytes) -> Callable[[Path], None]:
    def overwrite(path: Path) -> None:
        prepare(path)
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + content + whole[at + len(content) :])

    return overwrite


def _versions(*statements: str) -> Callable[[Path], None]:
    def change_versions(path: Path) -> None:
        prepare(path)
        with change(path) as connection:
            for statement in statements:
                connection.execute(statement)

    return change_versions


# How it came about, what is wrong, what to do.
REFUSED: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "empty": (_empty, "is empty, so no store", "restore it from a backup, or move it away"),
    "a text": (_text, r"is no sound database \(file is not a database\)", "restore it from a backup"),
    "foreign": (_foreign, "is another program's database", "name dtm's own, or a path that does not exist"),
    "foreign with a log": (_foreign_with_log, "is another program's database", "name dtm's own"),
    "foreign with our version": (_foreign_with_alembic, "is another program's database", "name dtm's own"),
    "cut within the header": (_cut_to(60), "is another program's database", "name dtm's own"),
    "cut after a page": (_cut_to(4_096), "is no sound database", "restore it from a backup"),
    "cut by a page": (_cut_to(-4_096), "is no sound database", "restore it from a backup"),
    "cut by a byte": (_cut_to(-1), "is cut short", "restore it from a backup"),
    "a broken name": (_overwritten(0, b"SQLite format 4"), "is no sound database", "restore it from a backup"),
    "a broken header": (_overwritten(16, b"\xff" * 16), "is no sound database", "restore it from a backup"),
    "a broken first page": (_overwritten(100, b"\xff" * 500), "is no sound database", "restore it from a backup"),
    "newer": (
        _versions("UPDATE alembic_version SET version_num = '9999'"),
        f"has schema 9999, newer than {REVISION}",
        "use the dtm that wrote it, or a newer one",
    ),
    "of no version": (
        _versions("DELETE FROM alembic_version"),
        "does not say which schema it has",
        "restore it from a backup",
    ),
    "of two versions": (
        _versions("INSERT INTO alembic_version VALUES ('0000')"),
        "does not say which schema it has",
        "restore it from a backup",
    ),
    "of a version that is no text": (
        _versions("UPDATE alembic_version SET version_num = x'00'"),
        "does not say which schema it has",
        "restore it from a backup",
    ),
    "without versions": (
        _versions("DROP TABLE alembic_version"),
        r"is no sound database \(no such table: alembic_version\)",
        "restore it from a backup",
    ),
}


@every_opener
@pytest.mark.parametrize(("make", "reason", "remedy"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_store_is_refused_and_left_alone(
    db: Path, opener: Opener, make: Callable[[Path], None], reason: str, remedy: str
) -> None:
    """The message has the file, what is wrong with it and what to do; not a byte of it changes."""
    make(db)
    before = db.read_bytes()

    with pytest.raises(StoreRefused, match=f"tasks.db: {reason}.*; {remedy}") as caught:
        opener(db)
    assert caught.value.path == db
    assert db.read_bytes() == before


@every_opener
def test_what_is_no_file_is_refused(db: Path, opener: Opener) -> None:
    """A folder or a pipe is no database, and looking at a pipe does not wait for somebody to write."""
    db.mkdir()
    pipe = db.parent / "pipe.db"
    os.mkfifo(pipe)

    for path in (db, pipe):
        with pytest.raises(StoreRefused, match="is not a regular file; name a database file"):
            opener(path)


@pytest.mark.parametrize("opener", [open_store, Reader.open], ids=["store", "reader"])
def test_only_prepare_makes_a_store(db: Path, opener: Opener) -> None:
    """Whoever only wants to look or to work does not begin an empty one by a slip in the path."""
    with pytest.raises(StoreMissing, match=r"tasks.db: no such database; name an existing one"):
        opener(db)
    assert beside(db) == []


def test_a_link_that_leads_to_itself_is_refused(db: Path) -> None:
    """In words, like everything else."""
    db.symlink_to(db)

    with pytest.raises(StoreRefused, match="cannot be looked at"):
        prepare(db)


_LOCK_OUT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA locking_mode = exclusive")
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_store_that_another_program_locks_is_refused(db: Path) -> None:
    """Somebody's database browser with an exclusive lock: it is named as the reason, and nothing is changed."""
    prepare(db)
    before = db.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", _LOCK_OUT, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(StoreRefused, match="is locked by another program; end that program, or wait for it"):
            prepare(db)
        other.kill()
        other.wait()

    assert db.read_bytes() == before
    assert prepare(db) == "opened"


@pytest.fixture
def public() -> Iterator[Path]:
    """Where a store may be that somebody else than root comes to."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder) / "tasks.db"
        Path(folder).chmod(0o777)


def error_of_a_plain_user(run: Callable[[], object]) -> str:
    """Run something in a process without root's rights, and give what it fails with."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _become_nobody_and_run(run, write_end)
    os.close(write_end)
    os.waitpid(child, 0)
    with os.fdopen(read_end, "rb") as pipe:
        return pipe.read().decode()


def _become_nobody_and_run(run: Callable[[], object], write_end: int) -> None:
    said = "no error"
    try:
        if os.geteuid() == 0:
            os.setgid(65_534)
            os.setuid(65_534)
        run()
    except BaseException as error:  # noqa: BLE001  # whatever it is, this process must end here
        said = f"{type(error).__name__}: {error}"
    finally:
        os.write(write_end, said.encode())
        os._exit(0)


@pytest.mark.parametrize("mode", [0o444, 0o222, 0o000])
@every_opener
def test_a_store_that_may_not_be_written_is_refused(public: Path, opener: Opener, mode: int) -> None:
    """Before anything is tried, with a word about owner and mode."""
    prepare(public)
    public.chmod(mode)
    before = public.read_bytes() if os.geteuid() == 0 else b""
    error = error_of_a_plain_user(lambda: opener(public))

    assert error == f"StoreRefused: {public}: may not be read and written; check its owner and mode"
    assert not before or public.read_bytes() == before


@every_opener
def test_a_store_in_a_folder_that_may_not_be_written_is_refused(public: Path, opener: Opener) -> None:
    """SQLite needs a place for its log."""
    prepare(public)
    public.chmod(0o666)
    public.parent.chmod(0o555)
    error = error_of_a_plain_user(lambda: opener(public))

    assert error == (
        f"StoreRefused: {public}: lies in a folder that may not be written; SQLite keeps its log beside the file"
    )


def test_a_store_cannot_be_made_where_nothing_may_be_written(public: Path) -> None:
    """With the system's own word for it."""
    public.parent.chmod(0o555)
    error = error_of_a_plain_user(lambda: prepare(public))

    assert error == (
        f"StoreRefused: {public}: cannot be created (Permission denied); "
        "check that its folder exists, may be written and has room"
    )


# --- migrated --------------------------------------------------------------------------------------------------


def _of_no_release(path: Path) -> None:
    """Make a store of ours that no migration has touched, and that the first one trips over half-way."""
    with change(path) as connection:
        connection.execute("CREATE TABLE counts (a)")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def test_a_migration_that_fails_leaves_nothing(db: Path) -> None:
    """Tables that it made before it failed are gone again, and the file is named with what went wrong."""
    _of_no_release(db)

    with pytest.raises(StoreRefused, match=r"tasks.db: cannot be migrated \(table counts already exists\); nothing"):
        migrate._upgrade(db)
    with change(db) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    assert tables == [("counts",)]


def test_a_store_whose_schema_nobody_knows_is_refused(db: Path) -> None:
    """It says that it is older, and there is no way from there to here."""
    _versions("UPDATE alembic_version SET version_num = '0000'")(db)
    before = db.read_bytes()

    with pytest.raises(StoreRefused, match=r"cannot be migrated .*'0000'.*; nothing was changed"):
        prepare(db)
    assert db.read_bytes() == before


@pytest.mark.parametrize("opener", [open_store, Reader.open], ids=["store", "reader"])
def test_an_older_store_is_left_to_the_server(db: Path, opener: Opener) -> None:
    """Whoever opens it for a look or a command does not migrate it."""
    _versions("UPDATE alembic_version SET version_num = '0000'")(db)

    with pytest.raises(StoreRefused, match=f"has schema 0000, older than {REVISION}; start dtm-server on it once"):
        opener(db)


def test_a_current_store_passes(db: Path) -> None:
    """As a whole, with nothing to say."""
    prepare(db)

    require_current(db)
