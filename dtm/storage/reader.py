"""What an onlooker wants to know of the store: short reads, each of one moment, on a connection of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, TextClause, bindparam, func, select, text
from sqlalchemy.exc import DatabaseError

from dtm.storage.batch import Failure, Progress, Selection, TaskSelection
from dtm.storage.cancel import ACTIVE, selected
from dtm.storage.deadletters import how_many, is_selected
from dtm.storage.engine import reader_engine
from dtm.storage.errors import StoreFailed
from dtm.storage.inspect import require_current
from dtm.storage.schema import assignments, audit, clients, dead_letters, tasks
from dtm.storage.sql import AnyRow, AnySelect, among, values
from dtm.storage.view import AttemptRow, AuditLine, DeadLetterRow, Space, TaskHistory, TaskRow

_READ_ON = ("error", "progress")
_COLUMNS = [column for column in tasks.c if column.name not in _READ_ON]
_TASKS = select(*_COLUMNS, tasks.c.error, tasks.c.progress)
_BY_IDS = _TASKS.where(among(tasks.c.id, "ids"))
_LETTERS = select(
    dead_letters.c.task_id,
    dead_letters.c.kind,
    dead_letters.c.reason,
    dead_letters.c.error,
    dead_letters.c.died_at,
    dead_letters.c.resolved_at,
    dead_letters.c.resolution,
    tasks.c.payload,
    tasks.c.retry_count,
    dead_letters.c.id,
).join_from(dead_letters, tasks, tasks.c.id == dead_letters.c.task_id, isouter=True)
_DEAD_TASKS = select(dead_letters.c.task_id).order_by(dead_letters.c.id.desc())
_ATTEMPTS = (
    select(
        assignments.c.id,
        clients.c.name,
        clients.c.address,
        assignments.c.assigned_at,
        assignments.c.finished_at,
        assignments.c.outcome,
        assignments.c.error,
    )
    .join_from(assignments, clients, clients.c.id == assignments.c.client_id)
    .order_by(assignments.c.id)
)
_AUDIT = (
    select(audit.c.seq, audit.c.line)
    .where(audit.c.seq > bindparam("after"))
    .order_by(audit.c.seq)
    .limit(bindparam("limit"))
)
_PAGES = text(
    "SELECT page_count, freelist_count, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
_PRESENT = select(clients.c.id).where(clients.c.left_at.is_(None))


class Reader:
    """A store opened for looking on; it neither locks nor changes anything."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Reader:
        """Open the store at `path`.

        Raises:
            StoreMissing: there is none; it is never created.
            StoreRefused: it is not a store of this version.
            StoreFailed: it cannot be read.
        """
        require_current(path)
        return cls.open_known(path)

    @classmethod
    def open_known(cls, path: Path) -> Reader:
        """Open the store at `path`, which has just been found to be of this version.

        Raises:
            StoreFailed: it cannot be read.
        """
        try:
            return cls(reader_engine(path).connect())
        except DatabaseError as error:
            raise StoreFailed(f"{path}: cannot be read ({error.orig})") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Let everything read inside see the database as it is now.

        Raises:
            StoreFailed: the file cannot be read.
        """
        if self._connection.in_transaction():
            yield
            return
        try:
            with self._connection.begin():
                yield
        except DatabaseError as error:
            raise StoreFailed(f"the database cannot be read ({error.orig})") from error
        except UnicodeDecodeError as error:
            raise StoreFailed(f"the database cannot be read (damaged text: {error.reason})") from error

    def rows(self, statement: AnySelect | TextClause, parameters: dict[str, Any] | None = None) -> Sequence[AnyRow]:
        """Run one statement, whole; alone it has a moment of its own.

        Raises:
            StoreFailed: the file cannot be read.
        """
        with self.moment():
            return self._connection.execute(statement, parameters or {}).all()

    @contextmanager
    def each(self, statement: AnySelect, parameters: dict[str, Any]) -> Iterator[Iterator[AnyRow]]:
        """Run one statement, and give its rows one by one, as far as they are wanted.

        Raises:
            StoreFailed: the file cannot be read.
        """
        with self.moment(), self._connection.execute(statement, parameters) as found:
            yield iter(found)

    def tasks_by_id(self, ids: Sequence[int]) -> list[TaskRow | None]:
        """Give the tasks of `ids` in that order; None where there is none."""
        found = {row.id: _task(row) for row in self.rows(_BY_IDS, {"ids": values(ids)})}
        return [found.get(id) for id in ids]

    def newest_tasks(
        self, *, state: str | None, kind: str | None, limit: int, before: int | None = None
    ) -> list[TaskRow]:
        """List tasks, the newest first, from the one before number `before` on."""
        statement = _TASKS.order_by(tasks.c.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(tasks.c.id < before)
        if state is not None:
            statement = statement.where(tasks.c.state == state)
        if kind is not None:
            statement = statement.where(tasks.c.kind == kind)
        return [_task(row) for row in self.rows(statement)]

    def history(self, task_id: int) -> TaskHistory | None:
        """Tell everything about one task; None if there is none."""
        with self.moment():
            (task,) = self.tasks_by_id([task_id])
            if task is None:
                return None
            attempts = self.rows(_ATTEMPTS.where(assignments.c.task_id == task_id))
            return TaskHistory(task, [_attempt(row) for row in attempts], self.deaths(task_id))

    def deaths(self, task_id: int) -> list[DeadLetterRow]:
        """List every time a task died, the first one first; they outlive the task."""
        letters = self.rows(_LETTERS.where(dead_letters.c.task_id == task_id).order_by(dead_letters.c.id))
        return [DeadLetterRow(*row) for row in letters]

    def dead_letters(self, selection: Selection, *, limit: int) -> list[DeadLetterRow]:
        """List open dead letters, the newest first."""
        statement = _LETTERS.where(is_selected(selection)).order_by(dead_letters.c.id.desc()).limit(limit)
        return [DeadLetterRow(*row) for row in self.rows(statement)]

    def count_dead_letters(self, selection: Selection) -> tuple[int, int]:
        """Count open dead letters, and give the newest one's number to bound a command by (0 if there is none)."""
        ((count, newest),) = self.rows(how_many(selection))
        return count, newest or 0

    def dead_tasks(self, selection: Selection, *, limit: int) -> list[int]:
        """List the tasks of open dead letters by their ids alone, the newest letter first."""
        statement = _DEAD_TASKS.where(is_selected(selection)).limit(limit)
        return [task_id for (task_id,) in self.rows(statement)]

    def count_active(self, selection: TaskSelection) -> tuple[int, int]:
        """Count tasks that could be cancelled, and give the newest one's number to bound a command by."""
        count, newest = 0, 0
        with self.moment():
            for state in ACTIVE:
                found = selected(selection, state).with_only_columns(func.count(), func.max(tasks.c.id))
                ((its_count, its_newest),) = self.rows(found)
                count, newest = count + its_count, max(newest, its_newest or 0)
        return count, newest

    def active_tasks(self, selection: TaskSelection, *, limit: int) -> list[int]:
        """List tasks that could be cancelled by their ids alone, the newest of each state first."""
        with self.moment():
            found = [
                row[0]
                for state in ACTIVE
                for row in self.rows(selected(selection, state).order_by(tasks.c.id.desc()).limit(limit))
            ]
        return sorted(found, reverse=True)[:limit]

    def space(self) -> Space:
        """Say how large the store is, and how much of it is free."""
        pages, free, size = self.rows(_PAGES)[0]
        return Space(pages * size, free * size)

    def present_clients(self) -> list[int]:
        """List the clients that no departure has been noted of."""
        return [id for (id,) in self.rows(_PRESENT)]

    def audit_lines(self, *, after: int, limit: int) -> list[AuditLine]:
        """List audit lines in their order, from the one after number `after` on."""
        return [AuditLine(*row) for row in self.rows(_AUDIT, {"after": after, "limit": limit})]


def _task(row: AnyRow) -> TaskRow:
    fields: dict[str, Any] = {column.name: getattr(row, column.name) for column in _COLUMNS}
    progress = None if row.progress is None else msgspec.json.decode(row.progress, type=Progress)
    return TaskRow(**fields, failure=_failure(row.error), progress=progress)


def _attempt(row: AnyRow) -> AttemptRow:
    fields: dict[str, Any] = dict(zip(AttemptRow.__struct_fields__, row, strict=True))
    return AttemptRow(**{**fields, "failure": _failure(fields["failure"])})


def _failure(text: str | None) -> Failure | None:
    return None if text is None else msgspec.json.decode(text, type=Failure)
