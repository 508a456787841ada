"""Bits that flip in the database: noticed, or the end of the server, and never a wrong acknowledgement.

SQLite keeps no checksums: a bit that flips in the middle of a payload is not noticed by anybody. What is promised is
that whatever is acknowledged on such a file is there when it is read again, or that the reading fails.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dtm.core.errors import DtmError
from dtm.storage.batch import Batch, NewTask, Released, Report, Submission
from dtm.storage.check import check
from dtm.storage.migrate import prepare
from dtm.storage.reader import Reader
from dtm.storage.receipt import Submitted
from dtm.storage.store import Store
from tests.storage.stage import NOON, Stage, open_store, seat

TASKS = 40
LATER = NOON + 1_000_000


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A store in which everything has happened, as bytes."""
    stage = Stage(tmp_path_factory.mktemp("whole") / "tasks.db")
    stage.bury(*[NewTask("add", f'"{"x" * 300}"')] * 10)
    stage.start(*[NewTask("add", f'"{n}"', key=f"key {n}") for n in range(10)])
    stage.submit(*[NewTask("mul", f'"{"y" * 100}"') for _ in range(TASKS - 20)])
    stage.close()
    return stage.path.read_bytes()


def flip(content: bytes, chance: random.Random) -> bytes:
    """Flip some bits, close together as on a bad sector, anywhere in the file."""
    spoilt = bytearray(content)
    place = chance.randrange(len(spoilt))
    for _ in range(chance.choice((1, 1, 2, 16))):
        at = min(len(spoilt) - 1, place + chance.randrange(64))
        spoilt[at] ^= 1 << chance.randrange(8)
    return bytes(spoilt)


@pytest.mark.parametrize("times", [60, pytest.param(1_000, marks=pytest.mark.soak)])
def test_flipped_bits_never_make_a_wrong_acknowledgement(
    tmp_path: Path, content: bytes, chance: random.Random, figure: Callable[[str], None], times: int
) -> None:
    """Opened, worked on and read again: each step succeeds, or says that the store is unfit."""
    outcomes: Counter[str] = Counter()
    for number in range(times):
        folder = tmp_path / str(number)
        folder.mkdir()
        db = folder / "tasks.db"
        db.write_bytes(flip(content, chance))
        outcomes[_live_with(db)] += 1
        for path in folder.iterdir():
            path.unlink()

    figure(f"bit flips: {dict(outcomes)}")
    assert outcomes["refused"] + outcomes["stopped"] + outcomes["found by check"] > 0
    assert outcomes.total() == times


def _live_with(db: Path) -> str:
    try:
        prepare(db)
        store = open_store(db)
    except DtmError:
        return "refused"
    with closing(store):
        try:
            acknowledged = _work(store)
        except DtmError:
            return "stopped"
    try:
        with closing(Reader.open(db)) as reader:
            found = reader.tasks_by_id(list(acknowledged))
            findings = list(check(reader, db, lambda: None))
    except DtmError:
        return "found later"
    assert [task and task.payload for task in found] == list(acknowledged.values()), "acknowledged, and not there"
    return "found by check" if findings else "not noticed"


def _work(store: Store) -> dict[int, str]:
    """Submit, assign and give back, as a server would; give what was acknowledged."""
    acknowledged: dict[int, str] = {}
    for turn in range(3):
        tasks = tuple(NewTask("mul", f'"turn {turn}, task {n}, {"z" * 50}"') for n in range(20))
        receipt = store.apply(Batch(submissions=[Submission(tasks)], seats=[seat(1, "mul", "add")]), LATER + turn)
        for answer in receipt.submissions:
            if isinstance(answer, Submitted):
                ids = dict(zip(answer.ids, [task.payload for task in tasks], strict=True))
                assert not ids.keys() & acknowledged.keys()
                acknowledged |= ids
        reports = [Report(1, one.task_id, one.assignment_id, Released()) for one in receipt.assigned]
        store.apply(Batch(reports=reports), LATER + turn)
    return acknowledged
