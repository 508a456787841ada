"""The task that runs just here, as its own code sees it: in a thread, in a coroutine or in a process of its own.

Knows no server and no connection: what it is told here, whoever runs the task looks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from msgspec import Struct

from dtm.core.errors import DtmError

MOST_NOTE_CHARACTERS = 200

_CURRENT: ContextVar[CurrentTask | None] = ContextVar("dtm-current-task", default=None)


class NoCurrentTask(DtmError):
    """No task runs here."""


class CurrentTask(Struct, eq=False):
    """A task, while it runs."""

    id: int
    kind: str
    attempt: int
    """1 for the first."""
    cancel_requested: bool = False
    """Whether somebody has asked the task to stop: it was cancelled, or has run for longer than its timeout."""
    latest: tuple[float | None, str] | None = None
    """What `progress` was told last."""

    def progress(self, fraction: float | None, note: str = "") -> None:
        """Say how much is done: a fraction from 0 to 1, or None if nobody knows, and what is being done.

        It costs next to nothing: the last word counts, and goes to the server about twice a second. A note longer than
        200 characters is cut.

        Raises:
            ValueError: the fraction is none.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"wanted a fraction from 0 to 1, or None if it is not known, found {fraction!r}")
        clean = str(note).encode("utf-8", "backslashreplace").decode("utf-8")
        self.latest = (None if fraction is None else float(fraction), clean[:MOST_NOTE_CHARACTERS])

    def __repr__(self) -> str:
        return f"<task {self.id}: {self.kind}, attempt {self.attempt}>"


def current() -> CurrentTask:
    """Give the task that runs here.

    Raises:
        NoCurrentTask: none does; a thread that a task has started for itself does not count, unless it was given a
            copy of the context (as `asyncio.to_thread` does).
    """
    task = _CURRENT.get()
    if task is None:
        raise NoCurrentTask("no task runs here: call dtm.current() in a task, while a client or dtm.testing runs it")
    return task


def current_or_none() -> CurrentTask | None:
    """Give the task that runs here, None if none does."""
    return _CURRENT.get()


def become(task: CurrentTask) -> None:
    """Let `task` be the current one from now on, in a context that is its own."""
    _CURRENT.set(task)


@contextmanager
def running(task: CurrentTask) -> Iterator[None]:
    """Let `task` be the current one as long as the context lasts."""
    token = _CURRENT.set(task)
    try:
        yield
    finally:
        _CURRENT.reset(token)
