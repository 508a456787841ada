"""What an operator may ask from afar: each question is one of the store's own reads, its answer bounded.

Runs in a thread. Knows no connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct, structs

from dtm.protocol.codec import ErrorCode
from dtm.protocol.framing import MAX_ANSWER, MAX_LINE
from dtm.protocol.messages import Id
from dtm.server.translate import Unacceptable
from dtm.storage.batch import Selection, TaskSelection
from dtm.storage.reader import Reader
from dtm.storage.statistics import Statistics, statistics
from dtm.storage.view import AttemptRow, DeadLetterRow, Space, TaskHistory, TaskRow

PAGE_ROWS = 50
"""Rows that are read at once; each may hold some megabytes."""

PAGE_BYTES = 1024 * 1024
"""A page ends with the row that reaches this: the next one begins behind it."""


MAX_IDS = MAX_LINE // 2
"""No selection that fits into a line names more."""

Limit = Annotated[int, Meta(ge=1)]


class Moment(Struct, frozen=True):
    """A store, and what time it is there (UTC microseconds)."""

    reader: Reader
    now: int


class Stats(Struct, frozen=True, forbid_unknown_fields=True):
    """The store's figures."""

    def answer(self, moment: Moment) -> Statistics:
        """Read them."""
        return statistics(moment.reader, moment.now)


class ListTasks(Struct, frozen=True, forbid_unknown_fields=True):
    """Tasks, the newest first, from the one before `before` on."""

    limit: Limit
    state: str | None = None
    kind: str | None = None
    before: Id | None = None

    def answer(self, moment: Moment) -> list[TaskRow]:
        """Read a page; an empty one is the end."""
        limit = min(self.limit, PAGE_ROWS)
        return _page(moment.reader.newest_tasks(state=self.state, kind=self.kind, before=self.before, limit=limit))


class ShowTask(Struct, frozen=True, forbid_unknown_fields=True):
    """One task, its deaths, and its attempts after assignment number `after`."""

    id: Id
    after: Id = 0

    def answer(self, moment: Moment) -> dict[str, TaskHistory | None]:
        """Read it, with a page of its attempts; one without attempts is the end."""
        history = moment.reader.history(self.id)
        if history is None:
            return {"history": None}
        attempts: list[AttemptRow] = [row for row in history.attempts if row.assignment_id > self.after]
        letters = _without_payload(history.dead_letters)
        return {"history": structs.replace(history, attempts=_page(attempts), dead_letters=letters)}


class ListDeaths(Struct, frozen=True, forbid_unknown_fields=True):
    """Every time one task died."""

    id: Id

    def answer(self, moment: Moment) -> list[DeadLetterRow]:
        """Read them."""
        return _without_payload(moment.reader.deaths(self.id))


class ListLetters(Struct, frozen=True, forbid_unknown_fields=True):
    """Open dead letters, the newest first; a `through` in the selection begins further down."""

    selection: Selection
    limit: Limit

    def answer(self, moment: Moment) -> list[DeadLetterRow]:
        """Read a page; an empty one is the end."""
        return _page(moment.reader.dead_letters(self.selection, limit=min(self.limit, PAGE_ROWS)))


class CountLetters(Struct, frozen=True, forbid_unknown_fields=True):
    """How many open dead letters there are, and the newest one's number."""

    selection: Selection

    def answer(self, moment: Moment) -> dict[str, int]:
        """Count them."""
        count, newest = moment.reader.count_dead_letters(self.selection)
        return {"count": count, "newest": newest}


class ListDeadTasks(Struct, frozen=True, forbid_unknown_fields=True):
    """The tasks of open dead letters, by their ids alone."""

    selection: Selection
    limit: Limit

    def answer(self, moment: Moment) -> list[int]:
        """Read them."""
        return moment.reader.dead_tasks(self.selection, limit=min(self.limit, MAX_IDS))


class CountTasks(Struct, frozen=True, forbid_unknown_fields=True):
    """How many tasks could be cancelled, and the newest one's number."""

    selection: TaskSelection

    def answer(self, moment: Moment) -> dict[str, int]:
        """Count them."""
        count, newest = moment.reader.count_active(self.selection)
        return {"count": count, "newest": newest}


class ListActive(Struct, frozen=True, forbid_unknown_fields=True):
    """The tasks that could be cancelled, by their ids alone."""

    selection: TaskSelection
    limit: Limit

    def answer(self, moment: Moment) -> list[int]:
        """Read them."""
        return moment.reader.active_tasks(self.selection, limit=min(self.limit, MAX_IDS))


class ShowSpace(Struct, frozen=True, forbid_unknown_fields=True):
    """How large the store is."""

    def answer(self, moment: Moment) -> Space:
        """Look at the file's pages."""
        return moment.reader.space()


Inquiry = (
    ShowSpace
    | Stats
    | ListTasks
    | ShowTask
    | ListDeaths
    | ListLetters
    | CountLetters
    | ListDeadTasks
    | CountTasks
    | ListActive
)

INQUIRIES: dict[str, type[Inquiry]] = {
    "space": ShowSpace,
    "stats": Stats,
    "tasks.list": ListTasks,
    "tasks.show": ShowTask,
    "tasks.deaths": ListDeaths,
    "tasks.count": CountTasks,
    "tasks.active": ListActive,
    "deadletter.list": ListLetters,
    "deadletter.count": CountLetters,
    "deadletter.tasks": ListDeadTasks,
}


def answer(inquiry: Inquiry, now: int) -> Callable[[Reader], Raw]:
    """Give what is to be done with the reader, in a thread.

    What that raises: `Unacceptable`, if not even one row fits into an answer.
    """

    def read(reader: Reader) -> Raw:
        result = msgspec.json.encode(inquiry.answer(Moment(reader, now)))
        if len(result) > MAX_ANSWER:
            raise Unacceptable(
                ErrorCode.RESPONSE_TOO_LARGE,
                f"the answer has {len(result):,} bytes, more than fit into a line; look on the server's machine",
            )
        return Raw(result)

    return read


def _page(rows: Iterable[Any]) -> list[Any]:
    """Take rows as long as they fit, at least one."""
    page, size = [], 0
    for row in rows:
        if size >= PAGE_BYTES:
            break
        page.append(row)
        size += len(msgspec.json.encode(row))
    return page


def _without_payload(letters: list[DeadLetterRow]) -> list[DeadLetterRow]:
    # It is the task's, and would come again with each of its deaths.
    return [structs.replace(letter, payload=None) for letter in letters]
