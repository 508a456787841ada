"""`dtm-admin compact`: what it says before and after, straight and through a live server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dtm.storage.batch import Batch, Clear, NewTask, Selection
from tests.admin.scene import Admin, Outcome, Scene
from tests.admin.test_afar import Guarded, guarded, run, running

__all__ = ["guarded", "run"]  # fixtures of test_afar's


@pytest.fixture
def hollow(scene: Scene) -> Scene:
    """A store of which some hundred KiB are free, and in which a task waits."""
    scene.submit(NewTask("other", "1"))
    ids = scene.bury(count=10, payload=f'"{"x" * 50_000}"')
    scene.apply(Batch(commands=[Clear(Selection(ids=tuple(ids)), 10)]))
    return scene


def test_without_a_server_it_rewrites_the_file_itself(hollow: Scene, admin: Admin) -> None:
    """It says how large that was and is; what is there stays."""
    before = hollow.db.stat().st_size
    told = admin("compact", "--yes")
    after = hollow.db.stat().st_size

    assert (told.code, told.out) == (0, "Compacted the database from 0.6 MiB to 0.1 MiB.\n")
    assert told.err.startswith("The database takes 0.6 MiB, of which 0.5 MiB are free. Submissions and results wait")
    assert before > 600_000 > 3 * after
    assert hollow.states(1) == ["pending"]


def test_a_dry_run_only_looks(hollow: Scene, admin: Admin) -> None:
    """Also beside a process that holds the store."""
    before = hollow.db.stat().st_size
    with hollow.held():
        told, document = admin("compact", "-n"), admin("compact", "-n", "-o", "json").document

    assert told.out == "The database takes 0.6 MiB, of which 0.5 MiB are free. Nothing was changed.\n"
    assert document["dry_run"] is True
    assert document["before_bytes"] == document["after_bytes"] == before
    assert document["free_bytes"] > 500_000


def test_where_nothing_is_free_there_is_nothing_to_do(hollow: Scene, admin: Admin) -> None:
    """Nobody is asked for that."""
    assert admin("compact", "--yes", "-o", "json").document["dry_run"] is False

    assert admin("compact", "--yes", "-o", "json").document["dry_run"] is False
    told = admin("compact")
    assert (told.code, told.out) == (0, "The database takes 0.1 MiB, of which 0.0 MiB are free. Nothing was changed.\n")


def test_without_a_terminal_it_wants_a_word(hollow: Scene, admin: Admin) -> None:
    """Whoever is kept waiting is to be told of it before."""
    before = hollow.db.stat().st_size
    told = admin("compact")

    assert told.code == 2
    assert "wait for about 1 s while the rest is rewritten. Go on?', found no terminal to ask" in told.err
    assert hollow.db.stat().st_size == before


def test_a_process_that_cannot_be_talked_to_is_left_alone(hollow: Scene, admin: Admin) -> None:
    """It holds the store and has not said where it listens."""
    with hollow.held():
        told = admin("compact", "--yes")

    assert told.code == 3
    assert "has not said how to reach it" in told.err


@pytest.mark.parametrize("comes", ["beside", "from afar"])
def test_a_live_server_does_it_itself(
    comes: str, hollow: Scene, guarded: Guarded, run: Callable[..., Outcome], tmp_path: Path
) -> None:
    """Asked by the operator of its machine, or by one with a token."""
    with running(tmp_path, **guarded.settings) as port:
        where = guarded.options(port) if comes == "from afar" else ["--db", str(hollow.db)]
        done = run("compact", "--yes", *where)
        again = run("compact", *where)

    assert (done.code, done.out) == (0, "Compacted the database from 0.6 MiB to 0.1 MiB.\n"), done.err
    assert "0.0 MiB are free" in again.out
    assert hollow.states(1) == ["pending"]
