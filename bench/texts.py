"""What the benchmarks let run: texts to be hashed, and the hashes they must give."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Raw, Struct

from dtm.protocol.messages import Result, SubmittedTask, Task

KIND = "HashText"
_KEY = "bench-"
_QUOTES = 2


class Texts(Struct, frozen=True):
    """A text for each number, at least `length` bytes long as JSON, and its kind, one of so many."""

    length: int = 0
    kinds: int = 1

    @property
    def names(self) -> list[str]:
        """Name the kinds."""
        return [self.kind(number) for number in range(self.kinds)]

    def kind(self, number: int) -> str:
        """Give a task's kind."""
        return KIND if self.kinds == 1 else f"{KIND}-{number % self.kinds}"

    def task(self, number: int, *, run_at: float | None = None) -> SubmittedTask:
        """Give the task of a number, with a key, as dtm-client would submit it."""
        return SubmittedTask(self.kind(number), Raw(self.payload(number).encode()), key=key(number), run_at=run_at)

    def payload(self, number: int) -> str:
        """Give a task's payload as JSON text."""
        return msgspec.json.encode(self._text(number)).decode()

    def result(self, number: int) -> str:
        """Give the one right result as JSON text."""
        return _hashed(self._text(number)).decode()

    def _text(self, number: int) -> str:
        return f"text {number}".ljust(self.length - _QUOTES, ".")


SHORT = Texts()
"""So short that hashing one takes next to nothing."""


def answer(task: Task) -> Result:
    """Run a task."""
    value = Raw(_hashed(msgspec.json.decode(task.payload, type=str)))
    return Result(task_id=task.task_id, assignment=task.assignment, ok=True, value=value)


def key(number: int) -> str:
    """Give a task's key."""
    return f"{_KEY}{number}"


def number_of(key: str) -> int:
    """Give the number of the task that has a key."""
    return int(key.removeprefix(_KEY))


def _hashed(text: str) -> bytes:
    return msgspec.json.encode(hashlib.sha256(text.encode()).hexdigest())
