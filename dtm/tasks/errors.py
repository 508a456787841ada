"""What can go wrong with a task, as whoever writes or submits it sees it."""

from __future__ import annotations

from dtm.core.errors import DtmError
from dtm.protocol.messages import Failure


class BadTask(DtmError):
    """A function that cannot be a task as it stands, or an option that no task can have."""


class BadArguments(DtmError):
    """What was to be submitted is not what the function takes; nothing was sent."""


class NotOpen(DtmError):
    """The app has no connection: it was not opened, or has been closed."""


class Blocking(DtmError):
    """`task.sync` was called in an event loop, which would stand still meanwhile."""


class NotFound(DtmError):
    """The server has no task of that id: there never was one, or it has been cleared away."""


class UnexpectedResult(DtmError):
    """A task's result is not what its function says to return."""


class TaskEnded(DtmError):
    """A task has ended without a result."""

    def __init__(self, message: str, *, id: int) -> None:
        super().__init__(message)
        self.id = id


class TaskFailed(TaskEnded):
    """A task has failed for good; `type`, `message` and `traceback` are those of its last failure, at the worker."""

    def __init__(self, error: Failure, *, id: int) -> None:
        super().__init__(f"task {id} failed: {error.type}: {error.message}", id=id)
        self.type = error.type
        self.message = error.message
        self.traceback = error.traceback


class TaskCancelled(TaskEnded):
    """A task was cancelled before it had a result."""

    def __init__(self, *, id: int) -> None:
        super().__init__(f"task {id} was cancelled", id=id)


class TaskExpired(TaskEnded):
    """A task waited, for a worker or for another try, when it was to expire."""

    def __init__(self, *, id: int) -> None:
        super().__init__(f"task {id} expired while it waited for a worker, or for another try", id=id)
