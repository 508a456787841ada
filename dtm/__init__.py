"""Durable task manager: one server, one SQLite file, any number of clients.

What programs that have tasks need is here: `import dtm`. It is imported when it is first named, so that the server's
programs do not pay for it.
"""

from __future__ import annotations

from importlib import import_module

# Not from `typing`: this page is read before a program can catch an interrupt, and imports next to nothing.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dtm.client.current import CurrentTask as CurrentTask
    from dtm.client.current import NoCurrentTask as NoCurrentTask
    from dtm.client.current import current as current
    from dtm.client.link import Unreachable as Unreachable
    from dtm.client.requests import RequestRefused as RequestRefused
    from dtm.client.verdicts import Reject as Reject
    from dtm.client.verdicts import Retry as Retry
    from dtm.client.verdicts import Snooze as Snooze
    from dtm.core.errors import DtmError as DtmError
    from dtm.security.errors import NotAdmitted as NotAdmitted
    from dtm.tasks.app import App as App
    from dtm.tasks.backoff import Constant as Constant
    from dtm.tasks.backoff import Exponential as Exponential
    from dtm.tasks.backoff import Linear as Linear
    from dtm.tasks.errors import BadArguments as BadArguments
    from dtm.tasks.errors import BadTask as BadTask
    from dtm.tasks.errors import Blocking as Blocking
    from dtm.tasks.errors import NotFound as NotFound
    from dtm.tasks.errors import NotOpen as NotOpen
    from dtm.tasks.errors import TaskCancelled as TaskCancelled
    from dtm.tasks.errors import TaskEnded as TaskEnded
    from dtm.tasks.errors import TaskExpired as TaskExpired
    from dtm.tasks.errors import TaskFailed as TaskFailed
    from dtm.tasks.errors import UnexpectedResult as UnexpectedResult
    from dtm.tasks.job import Job as Job
    from dtm.tasks.job import Status as Status
    from dtm.tasks.job import Update as Update
    from dtm.tasks.many import Jobs as Jobs
    from dtm.tasks.task import Task as Task

_HOMES = {
    "App": "dtm.tasks.app",
    "BadArguments": "dtm.tasks.errors",
    "BadTask": "dtm.tasks.errors",
    "Constant": "dtm.tasks.backoff",
    "Blocking": "dtm.tasks.errors",
    "CurrentTask": "dtm.client.current",
    "DtmError": "dtm.core.errors",
    "Exponential": "dtm.tasks.backoff",
    "Job": "dtm.tasks.job",
    "Jobs": "dtm.tasks.many",
    "Linear": "dtm.tasks.backoff",
    "NoCurrentTask": "dtm.client.current",
    "NotAdmitted": "dtm.security.errors",
    "NotFound": "dtm.tasks.errors",
    "NotOpen": "dtm.tasks.errors",
    "Reject": "dtm.client.verdicts",
    "RequestRefused": "dtm.client.requests",
    "Retry": "dtm.client.verdicts",
    "Snooze": "dtm.client.verdicts",
    "Status": "dtm.tasks.job",
    "Task": "dtm.tasks.task",
    "TaskCancelled": "dtm.tasks.errors",
    "TaskEnded": "dtm.tasks.errors",
    "TaskExpired": "dtm.tasks.errors",
    "TaskFailed": "dtm.tasks.errors",
    "UnexpectedResult": "dtm.tasks.errors",
    "Unreachable": "dtm.client.link",
    "Update": "dtm.tasks.job",
    "current": "dtm.client.current",
}
"""Where each public name stands."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
