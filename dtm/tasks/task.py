"""A function as a task: called, it runs here; submitted, it runs on a worker.

Knows no connection: its app has one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from dtm.client.handlers import Executor, Handler
from dtm.tasks.errors import BadTask
from dtm.tasks.options import Settings
from dtm.tasks.parameters import Parameters
from dtm.tasks.submissions import Submissions

if TYPE_CHECKING:
    from dtm.tasks.app import App

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Task(Submissions[P, R_co]):
    """A kind of task: a function, what it takes and returns, and the options of its submissions.

    Made by `@app.task`; `submit` and the others are those of `Submissions`.

    Raises:
        BadTask: the function, or an option, cannot be one of a task.
    """

    def __init__(self, app: App, function: Callable[P, Any], settings: Settings) -> None:
        _require_function(function)
        own = {name: value for name, value in settings.items() if name not in ("kind", "executor")}
        super().__init__(app, Parameters(settings.get("kind") or function.__name__, function), own)
        self.function = function
        self.handler = self._handler(settings.get("executor") or "thread")
        functools.update_wrapper(cast("Any", self), function)

    def __repr__(self) -> str:
        return f"<dtm task {self.kind!r}>"

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What a process of a worker's pool takes from the name that the function has in its module."""
        return {self.kind: self.handler}

    def _handler(self, executor: Executor) -> Handler:
        function, call = self.function, self.parameters.call
        if inspect.iscoroutinefunction(function):

            async def run_awaiting(payload: Any) -> Any:
                return await call(function, payload)

            run: Callable[[Any], Any] = run_awaiting
        else:

            def run(payload: Any) -> Any:
                return call(function, payload)

        try:
            return Handler(self.kind, run, self.parameters.payload_type, executor=executor, source=_source(function))
        except ValueError as error:
            raise BadTask(str(error)) from error


class FunctionTask(Task[P, R_co]):
    """A task of a plain function."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the function here and now, without any server."""
        result: R_co = self.function(*args, **kwargs)
        return result


class CoroutineTask(Task[P, R_co]):
    """A task of a coroutine function."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Give the coroutine, which runs here, without any server."""
        coroutine: Coroutine[Any, Any, R_co] = self.function(*args, **kwargs)
        return coroutine


def _source(function: Callable[..., Any]) -> str | None:
    """Name the place from which another process can import the task: where the function stands in its module."""
    return f"{function.__module__}:{function.__name__}" if function.__qualname__ == function.__name__ else None


def _require_function(function: Any) -> None:
    if isinstance(function, Task):
        raise BadTask(f"wanted a function, found {function!r}; a function is one kind of task only")
    if not inspect.isfunction(function):
        raise BadTask(f"wanted a function, found {function!r}; write @app.task above a def")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadTask(f"{function.__name__}: wanted a function that returns its result, found one that yields")
    home = function.__qualname__.rpartition(".")[0]
    if home and not home.endswith("<locals>") and next(iter(inspect.signature(function).parameters), None) == "self":
        raise BadTask(
            f"{function.__name__}: wanted a function, found a method of {home}; write it outside of the class"
        )
