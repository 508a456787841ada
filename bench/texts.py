"""What the benchmarks let run: texts so short that hashing one takes next to nothing, and the hashes they must give."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Raw

from dtm.protocol.messages import SubmittedTask

KIND = "HashText"


def task(number: int) -> SubmittedTask:
    """Give the task of a number, with a key, as dtm-client would submit it."""
    return SubmittedTask(KIND, Raw(payload(number).encode()), key=key(number))


def key(number: int) -> str:
    """Give a task's key."""
    return f"bench-{number}"


def payload(number: int) -> str:
    """Give a task's payload as JSON text."""
    return msgspec.json.encode(_text(number)).decode()


def result(number: int) -> str:
    """Give the one right result as JSON text."""
    digest = hashlib.sha256(_text(number).encode()).hexdigest()
    return msgspec.json.encode(digest).decode()


def _text(number: int) -> str:
    return f"text {number}"
