"""Statements that are compiled once: the same values, the same errors as through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import bindparam, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError

from dtm.storage.batch import Batch, NewTask
from dtm.storage.engine import writer_engine
from dtm.storage.migrate import prepare
from dtm.storage.prepared import Prepared
from dtm.storage.schema import counts
from dtm.storage.sql import Value
from tests.storage.stage import FAILED, OK, Stage, report

ADD = insert(counts)
READ = select(counts.c.tasks).where(counts.c.kind == bindparam("kind"), counts.c.state == "pending").limit(1)


def row(kind: str | None, tasks: int) -> dict[str, Value]:
    """Give the values of a row, in another order than the table's."""
    return {"tasks": tasks, "state": "pending", "kind": kind}


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[Prepared]:
    """Give the statements of a connection that is in a transaction."""
    db = tmp_path / "tasks.db"
    prepare(db)
    with writer_engine(db).begin() as connection:
        yield Prepared(connection)


def test_values_go_in_by_name_and_rows_come_out_as_tuples(prepared: Prepared) -> None:
    """What the statement itself says stands beside what is given."""
    prepared.run_each(ADD, [row("a", 0), row("b", 1)])
    assert prepared.run(READ, {"kind": "b"}).fetchall() == [(1,)]


def test_a_second_run_takes_the_values_of_the_second(prepared: Prepared) -> None:
    """Nothing of the first is kept."""
    prepared.run_each(ADD, [row("a", 7)])
    assert prepared.run(READ, {"kind": "none"}).fetchall() == []
    assert prepared.run(READ, {"kind": "a"}).fetchall() == [(7,)]


def test_a_missing_value_is_an_error(prepared: Prepared) -> None:
    """It is not taken for NULL."""
    with pytest.raises(KeyError, match="kind"):
        prepared.run(READ, {})


def test_errors_are_named_as_sqlalchemy_names_them(prepared: Prepared) -> None:
    """The store tells by them whether an item or the disk is to blame."""
    with pytest.raises(IntegrityError, match="UNIQUE"):
        prepared.run_each(ADD, [row("a", 1), row("a", 1)])
    with pytest.raises(IntegrityError, match="NOT NULL"):
        prepared.run(ADD, row(None, 1))
    prepared.connection.exec_driver_sql("DROP TABLE counts")
    with pytest.raises(OperationalError, match="no such table"):
        prepared.run(READ, {"kind": "a"})


def test_a_second_day_compiles_nothing(stage: Stage) -> None:
    """Otherwise a server would keep statement after statement."""
    compiled = stage.store._prepared._compiled
    a_day(stage)
    known = len(compiled)
    a_day(stage)

    assert len(compiled) == known > 5


def a_day(stage: Stage) -> None:
    """Let tasks come, run, fail and be done."""
    task = NewTask("add", "1")
    done, failed = stage.start(task, task)
    stage.apply(Batch(reports=[report(done, OK), report(failed, FAILED)]))
