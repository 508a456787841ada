"""A store seen through its server: asks for what `Reader` would read, page by page where it may be long."""

from __future__ import annotations

from msgspec import Struct, structs

from dtm.storage.batch import Selection, TaskSelection
from dtm.storage.statistics import Statistics
from dtm.storage.view import DeadLetterRow, Space, TaskHistory, TaskRow

from .remote import Conversation


class _Count(Struct, frozen=True):
    count: int
    newest: int


class _Shown(Struct, frozen=True):
    history: TaskHistory | None


class Lookout:
    """What `Reader` offers to this program, from afar."""

    def __init__(self, server: Conversation) -> None:
        self._server = server

    def statistics(self) -> Statistics:
        """Read the store's figures, at the server's time."""
        return self._server.ask("stats", Statistics)

    def space(self) -> Space:
        """Say how large the store is."""
        return self._server.ask("space", Space)

    def newest_tasks(self, *, state: str | None, kind: str | None, limit: int) -> list[TaskRow]:
        """List tasks, the newest first."""
        found: list[TaskRow] = []
        while len(found) < limit:
            before = found[-1].id if found else None
            args = {"state": state, "kind": kind, "before": before, "limit": limit - len(found)}
            page = self._server.ask("tasks.list", list[TaskRow], **args)
            if not page:
                break
            found += page
        return found

    def history(self, task_id: int) -> TaskHistory | None:
        """Tell everything about one task; None if there is none."""
        whole = page = self._attempts_after(task_id, 0)
        while page is not None and page.attempts:
            page = self._attempts_after(task_id, page.attempts[-1].assignment_id)
            if whole is not None and page is not None:
                whole = structs.replace(whole, attempts=[*whole.attempts, *page.attempts])
        return whole

    def deaths(self, task_id: int) -> list[DeadLetterRow]:
        """List every time a task died, the first one first; they outlive the task."""
        return self._server.ask("tasks.deaths", list[DeadLetterRow], id=task_id)

    def dead_letters(self, selection: Selection, *, limit: int) -> list[DeadLetterRow]:
        """List open dead letters, the newest first."""
        found: list[DeadLetterRow] = []
        while len(found) < limit:
            rest = selection if not found else structs.replace(selection, through=found[-1].id - 1)
            page = self._server.ask("deadletter.list", list[DeadLetterRow], selection=rest, limit=limit - len(found))
            if not page:
                break
            found += page
        return found

    def count_dead_letters(self, selection: Selection) -> tuple[int, int]:
        """Count open dead letters, and give the newest one's number."""
        found = self._server.ask("deadletter.count", _Count, selection=selection)
        return found.count, found.newest

    def dead_tasks(self, selection: Selection, *, limit: int) -> list[int]:
        """List the tasks of open dead letters by their ids alone, the newest letter first."""
        return self._server.ask("deadletter.tasks", list[int], selection=selection, limit=limit)

    def count_active(self, selection: TaskSelection) -> tuple[int, int]:
        """Count tasks that could be cancelled, and give the newest one's number."""
        found = self._server.ask("tasks.count", _Count, selection=selection)
        return found.count, found.newest

    def active_tasks(self, selection: TaskSelection, *, limit: int) -> list[int]:
        """List tasks that could be cancelled by their ids alone."""
        return self._server.ask("tasks.active", list[int], selection=selection, limit=limit)

    def _attempts_after(self, task_id: int, assignment_id: int) -> TaskHistory | None:
        return self._server.ask("tasks.show", _Shown, id=task_id, after=assignment_id).history
