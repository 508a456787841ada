"""What the store should do, in a few lines of Python: no SQL, no batches, no disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

BACKOFF_S = 10
"""Seconds that a failed task waits, times the number of its failures."""

SNOOZE_S = 15
"""Seconds for which a task that is snoozed is given back."""


@dataclass
class ModelTask:
    """A task; `run_at`, `expires_at` and `deadline` in seconds, `attempt` the live one."""

    kind: str
    payload: str
    priority: int
    max_retries: int
    key: str | None
    state: str = "pending"
    retry_count: int = 0
    run_at: int | None = None
    attempt: int | None = None
    timeout: int | None = None
    unique: str | None = None
    expires_at: int | None = None
    deadline: int | None = None
    is_to_stop: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ("scheduled", "pending", "assigned")


@dataclass
class ModelAttempt:
    """An attempt; without an outcome while it runs."""

    task: int
    client: int
    outcome: str | None = None


@dataclass
class Model:
    """A store, as its users may think of it. Time is a number of seconds."""

    now: int = 0
    tasks: dict[int, ModelTask] = field(default_factory=dict)
    attempts: dict[int, ModelAttempt] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    present: set[int] = field(default_factory=set)
    letters: list[int] = field(default_factory=list)
    told: list[tuple[str, int]] = field(default_factory=list)
    tasks_ever: int = 0
    attempts_ever: int = 0

    @property
    def live(self) -> list[int]:
        """The attempts that run."""
        return [id for id, attempt in self.attempts.items() if attempt.outcome is None]

    def join(self, name: str) -> int:
        """A client comes."""
        client = len(self.names) + 1
        self.names[client] = name
        self.present.add(client)
        return client

    def resume(self, name: str, named: Sequence[int]) -> tuple[int, list[int]]:
        """A client comes back; gives its number, and what is still its own."""
        own = [
            id for id in named if (attempt := self.attempts.get(id)) is not None and self.names[attempt.client] == name
        ]
        earlier = {self.attempts[id].client for id in own}
        client = self.join(name)
        resumed = [id for id in own if self.attempts[id].outcome is None]
        for id in resumed:
            self.attempts[id].client = client
        for gone in earlier:
            self.leave(gone, is_death=False)
        return client, resumed

    def submit(self, task: ModelTask, delay: int) -> tuple[int, bool] | None:
        """A task comes in; gives its id and whether its key had it already, or None for a conflict."""
        for id, other in self.tasks.items():
            if task.key is not None and task.key == other.key:
                return (id, True) if (task.kind, task.payload) == (other.kind, other.payload) else None
        twin = self._active_twin(task)
        if twin is not None:
            return twin, True
        self.tasks_ever += 1
        self.tasks[self.tasks_ever] = task
        if delay > 0:
            task.state, task.run_at = "scheduled", self.now + delay
        return self.tasks_ever, False

    def _active_twin(self, task: ModelTask) -> int | None:
        its = [
            id
            for id, other in self.tasks.items()
            if other is not task and other.is_active and (other.kind, other.unique) == (task.kind, task.unique)
        ]
        return its[0] if its and task.unique is not None else None

    def cancel(self, ids: Sequence[int]) -> list[str | None]:
        """Nobody needs these any more; gives where they stand then."""
        for id in ids:
            task = self.tasks.get(id)
            if task is None or not task.is_active:
                continue
            task.is_to_stop = True
            if task.attempt is None:
                task.state = "cancelled"
        return [task.state if (task := self.tasks.get(id)) is not None else None for id in ids]

    def submit_together(self, wanted: Sequence[tuple[ModelTask, int]]) -> tuple[list[int], list[int]] | None:
        """Tasks come in, all or none; gives their ids and which of them were there already, or None for a conflict."""
        before, tasks_ever = dict(self.tasks), self.tasks_ever
        ids, duplicates = [], []
        for task, delay in wanted:
            taken = self.submit(task, delay)
            if taken is None:
                self.tasks, self.tasks_ever = before, tasks_ever
                return None
            ids.append(taken[0])
            duplicates += [taken[0]] if taken[1] else []
        return ids, duplicates

    def let_time_act(self) -> None:
        """What is overdue ends, and what is due may run."""
        overdue = [(task.deadline, id) for id, task in self.tasks.items() if task.deadline is not None]
        for deadline, id in sorted(overdue):
            if deadline <= self.now:
                attempt = self.tasks[id].attempt
                assert attempt is not None
                self.end(attempt, "timed out")
        for task in self.tasks.values():
            waits = task.state in ("scheduled", "pending")
            if waits and task.expires_at is not None and task.expires_at <= self.now:
                task.state = "expired"
        self._fall_due()

    def _fall_due(self) -> None:
        """Scheduled tasks whose time has come."""
        for task in self.tasks.values():
            if task.state == "scheduled" and task.run_at is not None and task.run_at <= self.now:
                task.state = "pending"

    def give(self, client: int, kinds: Collection[str], free: int) -> list[tuple[int, int]]:
        """A client gets tasks; gives pairs of attempt and task."""
        waiting = [id for id, task in self.tasks.items() if task.state == "pending" and task.kind in kinds]
        waiting.sort(key=lambda id: (-self.tasks[id].priority, id))
        given = []
        for id in waiting[:free]:
            self.attempts_ever += 1
            self.attempts[self.attempts_ever] = ModelAttempt(id, client)
            task = self.tasks[id]
            task.state, task.attempt = "assigned", self.attempts_ever
            task.deadline = None if task.timeout is None else self.now + task.timeout
            given.append((self.attempts_ever, id))
        return given

    def report(self, client: int, task: int, id: int, outcome: str) -> bool:
        """A client's word: whether it is accepted."""
        attempt = self.attempts.get(id)
        if attempt is None or attempt.task != task:
            return False
        if attempt.outcome is None:
            if attempt.client != client:
                return False
            self.end(id, outcome)
            return True
        said = {"rejected": ("failed", "cancelled"), "failed": ("failed", "cancelled"), "snoozed": ("released",)}
        return attempt.outcome in said.get(outcome, (outcome,)) and self.names[attempt.client] == self.names[client]

    def leave(self, client: int, *, is_death: bool) -> None:
        """A client goes."""
        self.present.discard(client)
        for id, attempt in self.attempts.items():
            if attempt.client == client and attempt.outcome is None:
                self.end(id, "died" if is_death else "released")

    def end(self, id: int, outcome: str) -> None:
        """An attempt ends."""
        attempt = self.attempts[id]
        attempt.outcome = {"rejected": "failed", "snoozed": "released"}.get(outcome, outcome)
        task = self.tasks[attempt.task]
        task.attempt = task.deadline = None
        if task.is_to_stop and outcome != "completed":
            task.state = "cancelled"
            attempt.outcome = attempt.outcome if attempt.outcome == "released" else "cancelled"
        elif outcome == "snoozed":
            task.state, task.run_at = "scheduled", self.now + SNOOZE_S
        elif outcome == "completed":
            task.state = "completed"
        elif outcome == "released":
            task.state = "pending"
        else:
            self._lose(attempt.task, outcome)

    def _lose(self, id: int, outcome: str) -> None:
        task = self.tasks[id]
        task.retry_count += 1
        if outcome == "rejected" or task.retry_count >= task.max_retries:
            task.state = "dead"
            self.letters.append(id)
            self.told.append(("dead", id))
        elif outcome in ("failed", "timed out"):
            task.state, task.run_at = "scheduled", self.now + BACKOFF_S * task.retry_count
        else:
            task.state = "pending"

    def reprocess(self, ids: Collection[int], limit: int) -> tuple[int, int]:
        """Dead tasks run again; gives how many, and how many are left."""
        chosen, left = self._settle("reprocessed", ids, limit)
        for id in chosen:
            task = self.tasks[id]
            if self._active_twin(task) is not None:
                task.unique = None
            task.state, task.retry_count, task.run_at, task.expires_at = "pending", 0, None, None
        return len(chosen), left

    def clear(self, ids: Collection[int], limit: int) -> tuple[int, int]:
        """Dead tasks go away; gives how many, and how many are left."""
        chosen, left = self._settle("cleared", ids, limit)
        for id in chosen:
            del self.tasks[id]
            self.attempts = {number: attempt for number, attempt in self.attempts.items() if attempt.task != id}
        return len(chosen), left

    def _settle(self, how: str, ids: Collection[int], limit: int) -> tuple[list[int], int]:
        meant = [id for id in self.letters if id in ids]
        chosen = meant[:limit]
        self.letters = [id for id in self.letters if id not in chosen]
        self.told += [(how, id) for id in chosen]
        return chosen, len(meant) - len(chosen)
