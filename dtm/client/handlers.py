"""Kinds, the functions that run them, and what comes out of a run.

Knows no server and no connection: payload bytes go in, an outcome comes out.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

import msgspec
from anyio import get_cancelled_exc_class
from msgspec import Struct

from dtm.client.failures import Failure, excerpt, failure
from dtm.client.verdicts import Reject, Retry, Snooze
from dtm.core.errors import DtmError
from dtm.protocol.values import BadValue, checked, require_no_nan

Executor: TypeAlias = Literal["thread", "async", "process"]
EXECUTORS: tuple[Executor, ...] = get_args(Executor)


class BadPayload(Reject):
    """The payload is not what the handler takes."""


class BadResult(Reject):
    """The handler returned what cannot be sent."""


class UnknownKind(DtmError):
    """No handler runs this kind."""


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Handler:
    """The function that runs every task of one kind.

    `function` takes the payload, decoded by msgspec as `payload_type`, and returns anything that msgspec can
    write as JSON; it may be a coroutine function. It raises `Reject` for a task that must not be tried again.

    `executor` says where it runs: in a `thread`, in a `process` of a pool, or `async`, in an event loop, which is where
    a coroutine function runs that nobody wants in a process. `source` is what a process imports to find the handler:
    `module:name` of a mapping of handlers by their kinds, or of an object whose `handlers` is one. `before` is called
    before each run, in the client too if the function runs in a process; what it raises is how the run ends.

    Raises:
        ValueError: `kind` is empty, or holds a comma or blanks, which would make `--kinds A,B` ambiguous; or the
            function cannot run where it is to.
    """

    kind: str
    function: Callable[[Any], Any]
    payload_type: Any = Any
    executor: Executor = "thread"
    source: str | None = None
    before: Callable[[], object] = _nothing

    def __post_init__(self) -> None:
        if not self.kind or "," in self.kind or self.kind.split() != [self.kind]:
            raise ValueError(f"wanted the name of a kind, without commas and blanks, found {self.kind!r}")
        if self.executor not in EXECUTORS:
            raise ValueError(f"{self.kind}: wanted one of {', '.join(EXECUTORS)} as executor, found {self.executor!r}")
        if self.executor == "thread" and self.is_async:
            object.__setattr__(self, "executor", "async")
        if self.executor == "async" and not self.is_async:
            raise ValueError(
                f'{self.kind}: wanted a coroutine function for executor="async", found a plain one;'
                " write async def, or leave the executor out: it runs in a thread then"
            )
        if self.executor == "process" and not self.source:
            raise ValueError(
                f"{self.kind}: wanted a place that a process can import it from, found none;"
                " write the function at the top of a module, not inside of another"
            )

    @property
    def is_async(self) -> bool:
        """Whether the function must be awaited, and `run_async` run it."""
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(
            getattr(self.function, "__call__", None)  # noqa: B004  an object whose __call__ is a coroutine
        )


Handlers: TypeAlias = Mapping[str, Handler]


def registry(*handlers: Handler) -> Handlers:
    """Gather `handlers` under their kinds, for ever.

    Raises:
        ValueError: two of them run the same kind.
    """
    by_kind = {handler.kind: handler for handler in handlers}
    if len(by_kind) < len(handlers):
        found = ", ".join(handler.kind for handler in handlers)
        raise ValueError(f"wanted one handler for each kind, found {found}")
    return MappingProxyType(by_kind)


def find(handlers: Handlers, kind: str) -> Handler:
    """Give the handler of `kind`.

    Raises:
        UnknownKind: there is none.
    """
    try:
        return handlers[kind]
    except KeyError:
        known = ", ".join(handlers) or "none"
        raise UnknownKind(f"no handler runs the kind {excerpt(kind)!r}; the kinds known here are: {known}") from None


def select(handlers: Handlers, kinds: Iterable[str]) -> Handlers:
    """Keep only `kinds`, in their order; a kind named twice counts once.

    Raises:
        UnknownKind: one of them has no handler.
    """
    return MappingProxyType({kind: find(handlers, kind) for kind in kinds})


class Success(Struct, frozen=True):
    """A run went well; `value` is its result as JSON."""

    value: msgspec.Raw


class Returned(Struct, frozen=True):
    """The task goes back without blame, for so long if given."""

    delay_s: float | None = None


Outcome: TypeAlias = Success | Failure | Returned


def run_sync(handler: Handler, payload: bytes | msgspec.Raw, *, max_result_bytes: int) -> Outcome:
    """Run `handler` on `payload`, which is JSON, in this thread; whatever it raises becomes a `Failure`.

    Only Ctrl-C passes: a KeyboardInterrupt in the main thread is the user's and not the handler's.
    """
    try:
        handler.before()
        result = handler.function(_decoded(handler, payload))
        return _success(handler, result, max_result_bytes)
    except BaseException as error:  # noqa: BLE001  SystemExit too: a handler must not end the client
        return unsuccessful(error)


async def run_async(handler: Handler, payload: bytes | msgspec.Raw, *, max_result_bytes: int) -> Outcome:
    """Run `handler` on `payload`, awaiting it; whatever it raises, save cancellation, becomes a `Failure`."""
    try:
        handler.before()
        result = await handler.function(_decoded(handler, payload))
        return _success(handler, result, max_result_bytes)
    except get_cancelled_exc_class():
        raise
    except BaseException as error:  # noqa: BLE001  as in run_sync
        return unsuccessful(error)


def unsuccessful(error: BaseException) -> Failure | Returned:
    """Say how a run ends that has raised `error`."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error
    if isinstance(error, Snooze):
        return Returned(error.delay_s)
    after_s = error.after_s if isinstance(error, Retry) else None
    return failure(error, retry=not isinstance(error, Reject), after_s=after_s)


def _decoded(handler: Handler, payload: bytes | msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(payload, type=handler.payload_type)
    except (ValueError, RecursionError) as error:
        text = bytes(payload).decode("utf-8", "backslashreplace")
        raise BadPayload(
            f"{handler.kind} wanted another payload: {error}; found {excerpt(text)};"
            " submit a new task with a payload of that form"
        ) from error


def _success(handler: Handler, result: object, max_result_bytes: int) -> Success:
    try:
        data = msgspec.json.encode(result)
        value = checked(data)
        if b"null" in data:
            require_no_nan(result)
    except BadValue as error:
        raise BadResult(f"{handler.kind} returned what cannot be sent: it {error}") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadResult(
            f"{handler.kind} wanted to return a {type(result).__name__} that is no JSON: {error};"
            " return numbers, text, lists, dicts, dataclasses or None"
        ) from error
    if len(data) > max_result_bytes:
        raise BadResult(
            f"{handler.kind} may return at most {max_result_bytes:,} bytes of JSON, found {len(data):,};"
            " store the result elsewhere and return where it is"
        )
    return Success(value)
