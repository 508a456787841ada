"""A backlog that is put straight into a database is one that dtm itself might have written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bench import ledger
from bench.fill import fill
from bench.process import Failed
from bench.texts import SHORT, Texts
from dtm_admin.cli import main


def check(db: Path) -> int:
    """Let dtm-admin look for what must not be, and give its exit code."""
    return main(["check", "--db", str(db), "--dead-letter-log", str(db.with_name("dead.log"))])


def test_dtm_admin_finds_nothing_wrong(tmp_path: Path) -> None:
    """Tables, indexes and books fit together, and every task is there, in the kinds asked for."""
    db = tmp_path / "tasks.db"

    fill(db, [(1_000, Texts(kinds=20)), (30, Texts(kinds=3))])

    assert check(db) == 0
    with ledger.reading(db) as connection:
        ledger.require_submitted(connection, 1_030, SHORT)
        kinds = dict(connection.execute("SELECT kind, tasks FROM counts WHERE state = 'pending'"))
    assert kinds == {f"HashText-{n}": 60 if n < 3 else 50 for n in range(20)}


def test_the_check_would_notice(tmp_path: Path) -> None:
    """One task beyond the books is a finding: the check above says something."""
    db = tmp_path / "tasks.db"
    fill(db, [(10, SHORT)])

    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("DELETE FROM tasks WHERE id = 1")

    assert check(db) == 1


def test_what_does_not_fit_on_the_disk_is_not_begun(tmp_path: Path) -> None:
    """A backlog larger than the free room is refused before anything is written."""
    with pytest.raises(Failed, match="MiB of disk"):
        fill(tmp_path / "tasks.db", [(10**15, SHORT)])

    assert list(tmp_path.iterdir()) == []
