"""One process a store, and who it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dtm.storage.errors import StoreHeld, StoreRefused
from dtm.storage.lock import Holder, StoreLock

HOLDER = Holder(pid=4711, host="::1", port=12345, secret="open sesame")

_HOLD = """
import sys
from pathlib import Path
from dtm.storage.lock import Holder, StoreLock
lock = StoreLock(Path(sys.argv[1]))
lock.acquire()
lock.announce(Holder(4711, "127.0.0.1", 12345, "open sesame"))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Where a database would be."""
    return tmp_path / "tasks.db"


@contextmanager
def held(db: Path) -> Iterator[StoreLock]:
    """Hold the lock of a store."""
    lock = StoreLock(db)
    lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def held_elsewhere(db: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold the lock of a store in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_and_told_who_holds_the_store(db: Path) -> None:
    """At once, with the pid and the address that the first one announced."""
    with held_elsewhere(db):
        message = f"{db} is in use by the server with pid 4711 at 127.0.0.1:12345; only one process may write it"
        with pytest.raises(StoreHeld, match=message):
            StoreLock(db).acquire()


def test_a_killed_process_holds_nothing(db: Path) -> None:
    """The lock is the system's, not the file's: no leftover stands in the way."""
    with held_elsewhere(db) as process:
        process.kill()
        process.wait()

        with held(db) as lock:
            assert lock.holder() is not None


def test_a_second_lock_of_the_same_process_is_refused_too(db: Path) -> None:
    """Whoever has not announced itself is another process without a name."""
    with held(db), pytest.raises(StoreHeld, match="in use by another process"):
        StoreLock(db).acquire()


def test_a_lock_that_was_given_back_can_be_taken(db: Path) -> None:
    """By another lock, and by the same one again."""
    with held(db) as lock:
        pass
    with held(db):
        pass
    lock.acquire()
    lock.release()


def test_a_refused_lock_leaves_the_holder_its_own(db: Path) -> None:
    """Asking in vain takes nothing away, not even the record of who holds it."""
    with held(db) as lock:
        lock.announce(HOLDER)
        with pytest.raises(StoreHeld):
            StoreLock(db).acquire()

        assert StoreLock(db).holder() == HOLDER
        with pytest.raises(StoreHeld):
            StoreLock(db).acquire()


def test_the_holders_secret_is_for_its_owner_alone(db: Path) -> None:
    """Whatever the umask is, and whatever lay there before."""
    old = os.umask(0)
    try:
        (db.parent / "tasks.db.server.new").write_text("left by a crash")
        (db.parent / "tasks.db.server.new").chmod(0o666)
        with held(db) as lock:
            lock.announce(HOLDER)
            modes = {path.name: path.stat().st_mode & 0o777 for path in db.parent.iterdir()}
    finally:
        os.umask(old)

    assert modes == {"tasks.db.lock": 0o600, "tasks.db.server": 0o600}


def test_a_new_holder_replaces_the_record_of_a_dead_one(db: Path) -> None:
    """The record is whole at any moment: another takes its place, it is never rewritten."""
    with held(db) as lock:
        lock.announce(Holder(1, "127.0.0.1", 1, "old"))
        before = db.with_name("tasks.db.server").stat().st_ino
        lock.announce(HOLDER)

        assert lock.holder() == HOLDER
        assert db.with_name("tasks.db.server").stat().st_ino != before


def test_giving_the_lock_back_takes_the_record_away(db: Path) -> None:
    """No command on this machine looks for a server that has ended."""
    with held(db) as lock:
        lock.announce(HOLDER)

    assert StoreLock(db).holder() is None
    assert not db.with_name("tasks.db.server").exists()


def test_without_a_record_there_is_no_holder(db: Path) -> None:
    """A store that no server ever ran on has none."""
    assert StoreLock(db).holder() is None


@pytest.mark.parametrize(
    "record", [b"", b"{", b"null", b'{"pid":"x"}', b'{"pid":1,"host":"\xff","port":1,"secret":""}']
)
def test_a_record_that_cannot_be_read_names_nobody(db: Path, record: bytes) -> None:
    """A torn or foreign file beside the database is no reason to fail."""
    db.with_name("tasks.db.server").write_bytes(record)

    assert StoreLock(db).holder() is None


@pytest.mark.parametrize("name", ["tasks.db.lock", "tasks.db.server"])
def test_a_link_in_place_of_a_file_is_refused(db: Path, tmp_path: Path, name: str) -> None:
    """It could make the server write where somebody else wants it to, and tell its secret there."""
    target = tmp_path / "somewhere"
    target.write_text("precious")
    db.with_name(name).symlink_to(target)

    with pytest.raises(StoreRefused, match=f"{name}: is a symbolic link; remove it"):
        StoreLock(db).acquire()
    assert target.read_text() == "precious"


def test_a_link_in_place_of_the_record_names_nobody(db: Path, tmp_path: Path) -> None:
    """Nobody is sent to a server that somebody else has put there."""
    with held(db) as lock:
        lock.announce(HOLDER)
        record = db.with_name("tasks.db.server")
        record.rename(tmp_path / "elsewhere")
        record.symlink_to(tmp_path / "elsewhere")

        assert StoreLock(db).holder() is None


def test_a_link_where_the_record_is_drafted_is_replaced(db: Path, tmp_path: Path) -> None:
    """The secret does not go where somebody else can read it."""
    target = tmp_path / "somewhere"
    target.write_text("precious")
    db.with_name("tasks.db.server.new").symlink_to(target)
    with held(db) as lock:
        lock.announce(HOLDER)

        assert lock.holder() == HOLDER
        assert not db.with_name("tasks.db.server").is_symlink()
    assert target.read_text() == "precious"


def test_a_database_with_two_names_has_one_lock(db: Path, tmp_path: Path) -> None:
    """Who comes by a link meets who came straight, and is told the same."""
    db.touch()
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.db"
    link.symlink_to(db)
    with held(db) as lock:
        lock.announce(HOLDER)

        with pytest.raises(StoreHeld, match="pid 4711"):
            StoreLock(link).acquire()


def test_a_link_that_leads_to_itself_can_be_locked(db: Path) -> None:
    """That it is no database is for another to say, in words."""
    db.symlink_to(db)

    with held(db):
        pass


@pytest.mark.parametrize("path", ["nowhere/tasks.db", "file/tasks.db"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, path: str) -> None:
    """With the path, and a word about the folder."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreRefused, match="folder") as caught:
        StoreLock(tmp_path / path).acquire()
    assert caught.value.path == tmp_path / path
