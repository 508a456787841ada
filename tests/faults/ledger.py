"""What a driver has done and been told: each intent is written down before it is sent, each answer once it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tests.wire import Line

# A task of this kind is run by the product's own clients, and its result follows from its payload.
HASH = "HashText"


class Sent(Struct, frozen=True):
    """A result as a client has sent it."""

    task_id: int
    ok: bool
    value: Any


class Ledger:
    """The whole truth as far as the driver can know it. Kept in its memory: it is never the driver that is killed."""

    def __init__(self) -> None:
        self.intents: dict[str, Line] = {}
        """Key: the task that was submitted under it, perhaps many times."""
        self.acknowledged: dict[str, int] = {}
        """Key: the id that the server gave."""
        self.refused: set[str] = set()
        """Keys of tasks that the server refused, and that were never submitted again."""
        self.sent: dict[int, Sent] = {}
        """Assignment: the result that its holder has sent, perhaps many times."""
        self.accepted: dict[int, str] = {}
        """Assignment: where its task stood once the result was accepted."""
        self.stale: set[int] = set()
        """Assignments whose result was answered `stale`."""
        self.ended: set[tuple[int, str]] = set()
        """Tasks and the ends that the server told of."""

    def intend(self, tasks: list[Line]) -> list[Line]:
        """Write down what is about to be submitted, and give it back."""
        self.intents.update((task["key"], task) for task in tasks)
        return tasks

    def acknowledge(self, tasks: list[Line], ids: list[int]) -> None:
        """Write down the ids that were given; the same key always means the same task."""
        assert len(tasks) == len(ids)
        for task, id in zip(tasks, ids, strict=True):
            known = self.acknowledged.setdefault(task["key"], id)
            assert known == id, f"key {task['key']} was task {known} and is now task {id}"

    def send(self, message: Line) -> Line:
        """Write down a `Result` that is about to be sent, and give it back."""
        sent = Sent(message["task_id"], message["ok"], message.get("value"))
        known = self.sent.setdefault(message["assignment"], sent)
        assert known == sent, "a driver that changes its mind proves nothing"
        return message

    def hear(self, answer: Line) -> None:
        """Write down what a `ResultResponse` to a `Result` says."""
        assignment = answer["assignment"]
        if answer["status"] == "stale":
            self.stale.add(assignment)
        else:
            self.accepted.setdefault(assignment, answer["state"])
        assert not (assignment in self.stale and assignment in self.accepted and self.sent[assignment].ok), (
            f"assignment {assignment} was accepted once and stale once"
        )

    def end(self, task_id: int, state: str) -> None:
        """Write down a `TaskFinished`."""
        self.ended.add((task_id, state))


def hash_of(payload: str) -> str:
    """Say what HashText makes of a text."""
    return hashlib.sha256(payload.encode()).hexdigest()


# What the product's own clients must find. Of numbers, the tests use only primes.
RESULTS: dict[str, Callable[[str], Any]] = {HASH: hash_of, "CheckPrime": lambda _: True}
