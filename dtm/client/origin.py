"""The server that this process has its tasks from, if it is a worker or a process of a worker's pool.

Known as the variables of the environment that would name it, and with what to speak to it. Opens no connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

Origin: TypeAlias = Mapping[str, str]

UNKNOWN: Origin = {}
# Of the whole process: whatever a task starts, a thread or the loop of `task.sync`, belongs to the worker too.
_told: list[Origin] = []


@contextmanager
def told(origin: Origin) -> Iterator[None]:
    """Let this process have its tasks from `origin` as long as the context lasts."""
    _told.append(origin)
    try:
        yield
    finally:
        _told.remove(origin)


def origin() -> Origin:
    """Give the server that this process has its tasks from, `UNKNOWN` if it is no worker."""
    return _told[-1] if _told else UNKNOWN
