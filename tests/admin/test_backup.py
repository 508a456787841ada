"""`dtm-admin backup` and `restore`: what they say, and what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dtm.storage.lock import Holder
from tests.admin.scene import Admin, Scene

HOLDER = Holder(4711, "127.0.0.1", 12345, "open sesame")


@pytest.fixture
def backup(scene: Scene, admin: Admin) -> Path:
    """A backup of a store in which a task has died."""
    scene.bury()
    file = scene.db.with_name("backup.db")
    assert admin("backup", str(file)).code == 0
    return file


@contextmanager
def away(scene: Scene) -> Iterator[None]:
    """Move the store away for a while."""
    moved = scene.db.rename(scene.db.with_name("moved.db"))
    yield
    assert moved.exists()


def test_a_backup_is_told(scene: Scene, admin: Admin, tmp_path: Path) -> None:
    """What was copied, where to, and how large it is; also beside a live server."""
    file = tmp_path / "backup.db"
    with scene.held(HOLDER):
        told = admin("backup", str(file))
    again = admin("backup", str(file), "--force", "-o", "json")

    assert (told.code, told.out) == (0, f"Backed up {scene.db} to {file}, 0.1 MiB.\n")
    assert again.document == {"db": str(scene.db), "file": str(file), "bytes": file.stat().st_size}


def test_what_stands_in_the_way_is_told(scene: Scene, admin: Admin, backup: Path) -> None:
    """In one line, and nothing is replaced unless told."""
    found = admin("backup", str(backup))

    assert found.code == 1
    assert (
        found.err == f"Error: {backup}: is there already; name another file, or let --force replace an earlier backup\n"
    )


def test_a_backup_is_put_back_and_the_logs_of_the_lost_time_go_aside(
    scene: Scene, admin: Admin, backup: Path, tmp_path: Path
) -> None:
    """All files of the log, under names that say why."""
    log = tmp_path / "dead.log"
    for name in ("dead.log", "dead.log.0000000000000007", "dead.log-20261124"):
        (tmp_path / name).write_text(name)
    (tmp_path / "dead.log.old").write_text("somebody's")
    with away(scene):
        told = admin("restore", str(backup), "--dead-letter-log", str(log))
    first, *moved = told.out.splitlines()

    assert (told.code, scene.states(1)) == (0, ["dead"])
    assert first == f"Restored {backup} as {scene.db}. What happened after the backup is not in it."
    assert [line.partition(".before-")[0] for line in moved] == [
        f"Moved the log aside: {log}{end}" for end in ("-20261124", ".0000000000000007", "")
    ]
    assert sorted(path.name for path in tmp_path.glob("dead*") if ".before-" not in path.name) == ["dead.log.old"]
    assert [Path(line.partition(": ")[2]).read_text() for line in moved][-1] == "dead.log"


def test_a_restore_is_told_to_programs(scene: Scene, admin: Admin, backup: Path) -> None:
    """With both identities, and the number above which the store goes on."""
    with away(scene):
        log = scene.db.with_name("dead.log")
        document = admin("restore", str(backup), "--dead-letter-log", str(log), "-o", "json").document
    with closing(scene.connection()) as connection:
        ((store, seq),) = connection.execute("SELECT store_id, max(seq) FROM meta, audit").fetchall()

    assert (document["store"], document["numbers_above"]) == (store, seq - 1)
    assert document["was"] != store
    assert document["logs_moved_aside"] == []
    assert scene.audit()[-1]["was"] == document["was"]


def test_nothing_is_restored_under_a_live_server(scene: Scene, admin: Admin, backup: Path) -> None:
    """It works on the file that is to be replaced."""
    log = scene.db.with_name("dead-letter-queue.log")
    log.write_text("the log")
    with scene.held(HOLDER):
        found = admin("restore", str(backup), "--dead-letter-log", str(log))

    assert (found.code, "is in use by the server with pid 4711" in found.err) == (1, True)
    assert log.read_text() == "the log"


def test_a_database_that_is_there_stays(scene: Scene, admin: Admin, backup: Path) -> None:
    """Even the log is not touched before the store is in place."""
    log = scene.db.with_name("dead.log")
    log.write_text("the log")
    before = scene.db.read_bytes()
    found = admin("restore", str(backup), "--dead-letter-log", str(log))

    assert (found.code, "is there already; move it away first" in found.err) == (1, True)
    assert (scene.db.read_bytes(), log.read_text()) == (before, "the log")


def test_a_backup_that_is_not_there_is_not_found(scene: Scene, admin: Admin, tmp_path: Path) -> None:
    """And the store's place stays empty."""
    with away(scene):
        found = admin("restore", str(tmp_path / "absent.db"), "--dead-letter-log", str(tmp_path / "dead.log"))

        assert found.code == 4
        assert not scene.db.exists()


def test_a_backup_copied_into_place_is_refused_with_the_remedy(scene: Scene, admin: Admin, backup: Path) -> None:
    """The command that changes something says so, and the one that looks shows it."""
    scene.db.write_bytes(backup.read_bytes())

    assert f"dtm-admin restore NAME --db {scene.db}" in admin("deadletter", "clear", "--all", "--yes").err
    assert json.loads(admin("tasks", "list", "-o", "json").out)["tasks"][0]["state"] == "dead"


@pytest.mark.parametrize("words", [["backup", "x"], ["restore", "x"], ["audit", "verify"], ["check"]], ids=" ".join)
def test_a_command_on_files_says_that_it_does_not_work_from_afar(admin: Admin, words: list[str]) -> None:
    """Instead of passing over the option, and taking some file of this machine."""
    found = admin(*words, "--server", "127.0.0.1:12345")

    assert found.code == 2
    assert "works on the store's own files; run it on the server's machine" in " ".join(found.err.split())
