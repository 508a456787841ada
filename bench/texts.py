"""What the benchmarks let run: texts to be hashed, and the hashes they must give."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Raw, Struct

from dtm.protocol.messages import SubmittedTask

KIND = "HashText"
_KEY = "bench-"
_QUOTES = 2


class Texts(Struct, frozen=True):
    """A text for each number; `length` is the least that its JSON has in bytes."""

    length: int = 0

    def task(self, number: int, *, run_at: float | None = None) -> SubmittedTask:
        """Give the task of a number, with a key, as dtm-client would submit it."""
        return SubmittedTask(KIND, Raw(self.payload(number).encode()), key=key(number), run_at=run_at)

    def payload(self, number: int) -> str:
        """Give a task's payload as JSON text."""
        return msgspec.json.encode(self._text(number)).decode()

    def result(self, number: int) -> str:
        """Give the one right result as JSON text."""
        digest = hashlib.sha256(self._text(number).encode()).hexdigest()
        return msgspec.json.encode(digest).decode()

    def _text(self, number: int) -> str:
        return f"text {number}".ljust(self.length - _QUOTES, ".")


SHORT = Texts()
"""So short that hashing one takes next to nothing."""


def key(number: int) -> str:
    """Give a task's key."""
    return f"{_KEY}{number}"


def number_of(key: str) -> int:
    """Give the number of the task that has a key."""
    return int(key.removeprefix(_KEY))
