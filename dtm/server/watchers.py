"""Which connections want to hear when a task ends, and which of them how it goes on until then."""

from __future__ import annotations

from collections.abc import Iterable

from dtm.server.roster import Outlet


class Watchers:
    """Task numbers and the connections that wait for them; all of it forgotten with the connection."""

    def __init__(self) -> None:
        # Outlets in the order in which they asked; a set would have another order in each run.
        self._by_task: dict[int, dict[Outlet, None]] = {}
        self._by_outlet: dict[Outlet, set[int]] = {}
        self._followers: dict[int, dict[Outlet, None]] = {}

    def watch(self, outlet: Outlet, task_ids: Iterable[int], *, follows: bool = False) -> None:
        """Remember that `outlet` waits for these tasks, and whether it follows them until they end."""
        watched = self._by_outlet.setdefault(outlet, set())
        for task_id in task_ids:
            self._by_task.setdefault(task_id, {})[outlet] = None
            watched.add(task_id)
            if follows:
                self._followers.setdefault(task_id, {})[outlet] = None

    @property
    def anybody_follows(self) -> bool:
        """Whether there is any task that somebody follows."""
        return bool(self._followers)

    def following(self, task_id: int) -> Iterable[Outlet]:
        """Give those that follow the task."""
        return self._followers.get(task_id, ())

    def finished(self, task_id: int) -> Iterable[Outlet]:
        """Give those that wait for the task, which is now over for them."""
        waiting = self._by_task.pop(task_id, ())
        self._followers.pop(task_id, None)
        for outlet in waiting:
            self._by_outlet[outlet].discard(task_id)
        return waiting

    def unwatch(self, outlet: Outlet, task_id: int) -> None:
        """Forget that `outlet` waits for the task."""
        self._by_outlet.get(outlet, set()).discard(task_id)
        self._drop(outlet, task_id)

    def forget(self, outlet: Outlet) -> None:
        """Forget a connection."""
        for task_id in self._by_outlet.pop(outlet, ()):
            self._drop(outlet, task_id)

    def _drop(self, outlet: Outlet, task_id: int) -> None:
        for by_task in (self._by_task, self._followers):
            waiting = by_task.get(task_id, {})
            waiting.pop(outlet, None)
            if not waiting:
                by_task.pop(task_id, None)
