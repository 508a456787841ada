"""The free pages of the file go back to the disk, whole or not at all."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dtm.storage.batch import Batch, NewTask, Prune
from dtm.storage.errors import NoRoom, StoreBusy
from dtm.storage.reader import Reader
from dtm.storage.retention import Retention, look
from tests.storage.stage import MINUTE, OK, Stage, report, what_is_wrong
from tests.waiting import in_the_end

RULE = Retention(MINUTE, MINUTE, None)
_COMPACT = """
import sys
from pathlib import Path
from tests.storage.stage import open_store

store = open_store(Path(sys.argv[1]))
store.compact(0)
store.close()
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A store of which the larger part is free."""
    stage = Stage(tmp_path / "tasks.db")
    fill(stage, 3_000)
    yield stage
    stage.close()
    assert what_is_wrong(stage.path) == {}


def fill(stage: Stage, tasks: int) -> None:
    """Let tasks be completed and taken out again, and leave a few."""
    assigned = stage.start(*[NewTask("add", f'"{"x" * 900}"')] * 100)
    while assigned:
        stage.apply(Batch(reports=[report(one, OK) for one in assigned]))
        tasks -= len(assigned)
        assigned = stage.start(*[NewTask("add", f'"{"x" * 900}"')] * 100) if tasks > 0 else []
    stage.wait(60)
    stage.submit(*[NewTask("mul", "1", f"k{n}") for n in range(300)])
    with closing(Reader.open(stage.path)) as reader:
        while ids := look(reader, RULE.cutoffs(stage.now), after=0).ids:
            stage.apply(Batch(prunings=[Prune(ids, RULE.cutoffs(stage.now))]))


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Give everything that the store holds."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names if name != "meta"}


def size(path: Path) -> int:
    """Say how many bytes the store's files take."""
    return sum(file.stat().st_size for file in path.parent.glob("tasks.db*") if not file.name.endswith("-shm"))


def test_what_is_free_goes_and_what_is_there_stays(stage: Stage) -> None:
    """On the disk too, the write-ahead log included, while the store is open and onlookers are there."""
    before, taken = rows(stage.path), size(stage.path)
    with closing(Reader.open(stage.path)) as reader:
        seen = reader.space()
        done = stage.store.compact(0)

        assert reader.space() == done.after
    assert done.before == seen
    assert seen.free > seen.taken / 2
    assert done.after.free == 0
    assert done.after.taken <= seen.live
    assert size(stage.path) < taken / 2
    assert rows(stage.path) == before


def test_the_store_goes_on_where_it_was(stage: Stage) -> None:
    """Numbers, keys and the settings of the file are what they were."""
    last = stage.sql("SELECT max(id) FROM tasks")[0][0]
    stage.store.compact(0)
    (known,) = stage.submit(NewTask("mul", "1", "k7"))
    (new,) = stage.submit(NewTask("mul", "1"))

    assert known <= last
    assert new == last + 1
    assert stage.sql("PRAGMA journal_mode") == [("wal",)]


def test_without_room_nothing_is_begun(stage: Stage) -> None:
    """It says what is wanted and where."""
    before = size(stage.path)

    with pytest.raises(NoRoom, match=rf"{stage.path.parent}: wanted [\d,.]+ MiB free to compact a store of"):
        stage.store.compact(2**60)
    assert size(stage.path) == before


def test_a_store_that_another_program_has_locked_is_left_alone(stage: Stage) -> None:
    """It may be asked again."""
    stage.store.wait_for_lock(0.01)
    with closing(sqlite3.connect(stage.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            stage.store.compact(0)
        other.execute("ROLLBACK")

    assert stage.store.compact(0).after.free == 0


@pytest.mark.parametrize("written", [0.0, 0.3, 0.8])
def test_killed_on_the_way_it_has_changed_nothing(tmp_path: Path, written: float) -> None:
    """As its log grows; the next one does what this one could not."""
    stage = Stage(tmp_path / "tasks.db")
    fill(stage, 1_000)
    stage.submit(*[NewTask("mul", f'"{"y" * 900_000}"')] * 40)
    stage.close()
    before, log = rows(stage.path), stage.path.with_name("tasks.db-wal")
    # One that was over before the blow fell is no loss: whatever is there is rewritten each time.
    assert any(_is_killed(stage.path, lambda: _length(log) > 36_000_000 * written + 65_536) for _ in range(20))
    assert what_is_wrong(stage.path) == {}
    assert rows(stage.path) == before
    stage.reopen()
    assert stage.store.compact(0).after.free == 0
    assert rows(stage.path) == before
    stage.close()


def _is_killed(path: Path, is_time: Callable[[], bool]) -> bool:
    """Compact in a process of its own, and kill that when it is time; say whether it still ran."""
    process = subprocess.Popen([sys.executable, "-c", _COMPACT, str(path)], cwd=Path(__file__).parents[2])
    in_the_end(lambda: process.poll() is not None or is_time())
    process.kill()
    return process.wait() == -signal.SIGKILL


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
