"""The app: a user's tasks by their kinds, and the server that they are submitted to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, Protocol, Self, TypeVar, Unpack, overload

import msgspec

from dtm.client.handlers import Handlers
from dtm.client.producer import Producer
from dtm.core.addresses import parse_address
from dtm.tasks.connection import Connections
from dtm.tasks.errors import BadTask
from dtm.tasks.job import Job
from dtm.tasks.options import TaskOptions, checked
from dtm.tasks.server import Server
from dtm.tasks.sync import Background, Thread
from dtm.tasks.task import CoroutineTask, FunctionTask, Task

P = ParamSpec("P")
R = TypeVar("R")


class Decorator(Protocol):
    """What `@app.task(…)` decorates with."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a coroutine function is a function too
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> CoroutineTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> FunctionTask[P, R]: ...


class App:
    """A set of tasks, and the server that knows them.

    The server is `server` ("host:port"), else the variable `DTM_SERVER`, else 127.0.0.1:12345; the credentials are
    those named here, else those that `DTM_TOKEN_FILE`, `DTM_TLS`, `DTM_TLS_CA`, `DTM_TLS_CERT` and `DTM_TLS_KEY`
    name, as for dtm-client. In a worker, an app without `server` speaks to the worker's, with the worker's credentials:
    what a task submits goes to where the task is from. Nothing is read or connected before the app is used.

    Raises:
        ValueError: `server` is no address.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        token_file: str | PathLike[str] | None = None,
        tls: bool | None = None,
        tls_ca: str | PathLike[str] | None = None,
        tls_cert: str | PathLike[str] | None = None,
        tls_key: str | PathLike[str] | None = None,
    ) -> None:
        if server is not None:
            parse_address(server)
        self.server = Server(
            address=server,
            token_file=_path(token_file),
            tls=tls,
            tls_ca=_path(tls_ca),
            tls_cert=_path(tls_cert),
            tls_key=_path(tls_key),
        )
        self._tasks: dict[str, Task[Any, Any]] = {}
        self._connections = Connections()
        self._stand_in: Producer | None = None
        self.background: Background = Thread(lambda: self.server)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Connect, and stay connected until `aclose`; `async with app:` does both.

        Many may do so at once, such as tasks that submit tasks: those of one event loop share a connection, which the
        last of them closes.

        Raises:
            Unreachable: no server answers.
            NotAdmitted: it refuses this program, or this program the server.
            Misconfigured: an address or a file with credentials is no such thing.
        """
        if self._stand_in is None:
            await self._connections.open(self.server)

    async def aclose(self) -> None:
        """Close the connection, if nobody else has opened it; whoever still waits for an answer is told."""
        if self._stand_in is None:
            await self._connections.close()

    def close(self) -> None:
        """End the thread behind `task.sync`, if there is one; the end of the program does so too."""
        self.background.close()

    @property
    def producer(self) -> Producer:
        """The connection's producer.

        Raises:
            NotOpen: the app is not open, or was opened in another event loop.
        """
        return self._stand_in or self._connections.producer

    @contextmanager
    def standing_in(self, producer: Producer, background: Background) -> Iterator[None]:
        """Speak over these and no connection as long as the context lasts; for `dtm.testing.inline`."""
        before = self._stand_in, self.background
        self._stand_in, self.background = producer, background
        try:
            yield
        finally:
            self._stand_in, self.background = before

    @contextmanager
    def pointed_at(self, server: Server) -> Iterator[None]:
        """Speak to `server` and no other as long as the context lasts; for `dtm.testing.server`."""
        before, self.server = self.server, server
        self.close()
        try:
            yield
        finally:
            self.close()
            self.server = before

    def job(self, id: int) -> Job[Any]:
        """Give the job of a task of any kind that was submitted before, here or elsewhere.

        Raises:
            ValueError: `id` can be that of no task.
        """
        return Job(id, lambda: self.producer, msgspec.json.decode)

    @property
    def tasks(self) -> Mapping[str, Task[Any, Any]]:
        """The tasks by their kinds."""
        return MappingProxyType(self._tasks)

    @property
    def handlers(self) -> Handlers:
        """What a worker needs to run them."""
        return {kind: task.handler for kind, task in self._tasks.items()}

    @overload
    def task(  # type: ignore[overload-overlap]  # a coroutine function is a function too
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> CoroutineTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> FunctionTask[P, R]: ...
    @overload
    def task(self, /, **options: Unpack[TaskOptions]) -> Decorator: ...
    def task(self, function: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
        """Make a function a task: `@app.task`, or `@app.task(max_retries=5, timeout="30s")`; see `TaskOptions`.

        Raises:
            BadTask: the function, or an option, cannot be one of a task; or another function has the kind.
        """
        settings = checked(options, of=TaskOptions)

        def decorate(function: Callable[..., Any]) -> Task[Any, Any]:
            task_class = CoroutineTask if inspect.iscoroutinefunction(function) else FunctionTask
            return self._add(task_class(self, function, settings))

        return decorate if function is None else decorate(function)

    def _add(self, task: Task[Any, Any]) -> Task[Any, Any]:
        other = self._tasks.get(task.kind)
        if other is not None and not _is_redefined(other, task):
            raise BadTask(
                f"wanted one function for each kind, found two for {task.kind!r}: {_place(other)} and {_place(task)};"
                ' give one of them another kind="…"'
            )
        self._tasks[task.kind] = task
        return task


def _is_redefined(other: Task[Any, Any], task: Task[Any, Any]) -> bool:
    """Whether both are one function of a module, as before and after a reload; of others one place can hold many."""
    return "<" not in _place(task) and _place(other) == _place(task)


def _place(task: Task[Any, Any]) -> str:
    return f"{task.function.__module__}.{task.function.__qualname__}"


def _path(path: str | PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)
