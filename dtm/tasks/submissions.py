"""Where a task is submitted: with its own options, or with others.

`submit` takes the function's own parameters, and `result()` of the job that it gives has its return type.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, Unpack

from dtm.client.producer import Producer
from dtm.protocol.messages import SubmittedTask
from dtm.tasks.job import Job
from dtm.tasks.many import Arguments, Jobs, submit_all
from dtm.tasks.options import Settings, SubmitOptions, checked, combined, submitted
from dtm.tasks.parameters import Parameters
from dtm.tasks.sync import SyncJob, SyncJobs

if TYPE_CHECKING:
    from dtm.tasks.app import App

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

UNIQUE_ARGUMENTS = "args"


class Line(Protocol):
    """What has a producer: an app that is open, or its thread."""

    @property
    def producer(self) -> Producer:
        """The producer."""


class Submissions(Generic[P, R_co]):
    """A task with some options; whatever is submitted here has them."""

    def __init__(self, app: App, parameters: Parameters, settings: Settings, line: Line | None = None) -> None:
        self.app = app
        self._line = line or app
        self.parameters = parameters
        self.settings = settings

    @property
    def kind(self) -> str:
        """What the task is called, between programs too."""
        return self.parameters.kind

    def options(self, **options: Unpack[SubmitOptions]) -> Submissions[P, R_co]:
        """Give the same task with other options, see `SubmitOptions`; those not named stay as they are.

        Raises:
            BadTask: an option cannot be.
        """
        settings = combined(self.settings, checked(options, of=SubmitOptions))
        return Submissions(self.app, self.parameters, settings)

    @property
    def sync(self) -> SyncSubmissions[P, R_co]:
        """The same for programs without async."""
        return SyncSubmissions(Submissions(self.app, self.parameters, self.settings, self.app.background))

    async def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]:
        """Submit the task with these arguments, and give its job once it is on the server's disk.

        Sent again after a break it is still one task. With a `key` that was used before, or a `unique` that is active,
        it is the job that there is.

        Raises:
            BadArguments: the function does not take them; nothing was sent.
            NotOpen: the app is not open.
            RequestRefused: the server does not take it, for example because its key names another task.
        """
        task = self.task(args, kwargs, key=self.key())
        (id,) = await self._line.producer.submit([task], follow=False)
        return self.job(id)

    async def submit_many(self, items: Iterable[Any] | AsyncIterable[Any]) -> Jobs[R_co]:
        """Submit a task for each of `items`, and give their jobs, in order, once all are on the server's disk.

        An item is what stands between the parentheses of a call: `task.args(…)`, which is checked by type checkers, a
        tuple of arguments, a dict of arguments by name, or else the only argument. The items are fetched as they are
        sent, and a bounded number of them is on its way at a time; all that stays is eight bytes a task. A `key` among
        the options is completed by each item's number: KEY-1, KEY-2, …

        Raises:
            BadArguments: the function does not take an item; the message says which, and how many are submitted.
            NotOpen, RequestRefused: as for `submit`.
        """
        ids = await submit_all(self._line.producer, self, items)
        return Jobs(ids, self.job)

    def args(self, /, *args: P.args, **kwargs: P.kwargs) -> Arguments:
        """Write an item of `submit_many`, in the form of a call."""
        return Arguments(args, kwargs)

    def job(self, id: int) -> Job[R_co]:
        """Give the job of a task of this kind that was submitted before, here or elsewhere.

        Raises:
            ValueError: `id` can be that of no task.
        """
        return Job(id, lambda: self._line.producer, self.parameters.result)

    def key(self) -> str:
        """Give the key that the options name; else a new one, of this submission alone, for the case of a break."""
        return self.settings.get("key") or secrets.token_hex(16)

    def task(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, key: str) -> SubmittedTask:
        """Write a submission as the wire has it.

        Raises:
            BadArguments: the function does not take these arguments.
        """
        payload = self.parameters.payload(args, kwargs)
        unique = self.settings.get("unique")
        if unique == UNIQUE_ARGUMENTS:
            unique = f"args-{self.parameters.digest(args, kwargs)}"
        return submitted(self.kind, payload, self.settings, key=key, unique=unique)


class SyncSubmissions(Generic[P, R_co]):
    """`Submissions` for programs without async: safe to use in any number of threads."""

    def __init__(self, submissions: Submissions[P, R_co]) -> None:
        self._submissions = submissions
        self._background = submissions.app.background

    def options(self, **options: Unpack[SubmitOptions]) -> SyncSubmissions[P, R_co]:
        """Give the same task with other options; see `Submissions.options`."""
        return self._submissions.options(**options).sync

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> SyncJob[R_co]:
        """Submit the task with these arguments, and give its job; see `Submissions.submit`."""
        return SyncJob(self._background.call(partial(self._submissions.submit, *args, **kwargs)), self._background)

    def submit_many(self, items: Iterable[Any]) -> SyncJobs[R_co]:
        """Submit a task for each of `items`, and give their jobs, in order; see `Submissions.submit_many`.

        The items are fetched in the thread that has the connection.
        """
        jobs = self._background.call(partial(self._submissions.submit_many, items))
        return SyncJobs(jobs.ids, self.job)

    def job(self, id: int) -> SyncJob[R_co]:
        """Give the job of a task of this kind that was submitted before, here or elsewhere.

        Raises:
            ValueError: `id` can be that of no task.
        """
        return SyncJob(self._submissions.job(id), self._background)
