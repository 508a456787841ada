"""What can be said of a task besides its arguments: how urgent, how often, how long, until when.

Each option is checked where it is written, at the decoration or at the submission, and turned into what the wire has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import Any, TypeAlias, TypedDict

import msgspec
from msgspec import Raw, structs

from dtm.client.handlers import EXECUTORS, Executor
from dtm.core.durations import Duration, seconds_of
from dtm.protocol.messages import Key, Kind, Priority, Retries, RetryPolicy, SubmittedTask
from dtm.tasks.backoff import Backoff, Constant, Exponential, Linear
from dtm.tasks.errors import BadTask

Exceptions: TypeAlias = type[BaseException] | Iterable[type[BaseException]]

# The whole of a type's base classes that say nothing: a policy that names one of them would mean "any failure".
_UNSAID = (Exception, BaseException, object)


class Options(TypedDict, total=False):
    """The options of a task and of each of its submissions; None asks for the server's own.

    priority: higher runs first, 0 if not given.
    timeout: how long one attempt may take.
    max_retries: the failed attempt of this number is the last; 1 means no second try.
    expires: a task that no worker has begun after so long, or by that instant, never runs.
    unique: "args" for one active task of these arguments, any other text for one active task of that text.
    retry: `Constant`, `Linear` or `Exponential`: how long to wait before the next try.
    retry_for, no_retry_for: exception types; after others, or after these, the task fails for good.
    """

    priority: int | None
    timeout: Duration | None
    max_retries: int | None
    expires: Duration | datetime | None
    unique: str | None
    retry: Backoff | None
    retry_for: Exceptions | None
    no_retry_for: Exceptions | None


class TaskOptions(Options, total=False):
    """The options of `@app.task(…)`.

    kind: what the task is called, between programs too; by default the function's name.
    executor: "async" in the event loop, "thread", or "process", which can be ended from outside.
    """

    kind: str
    executor: Executor


class SubmitOptions(Options, total=False):
    """The options of `task.options(…)`.

    delay, run_at: not before so long has passed, or before that instant.
    key: names the task: whatever is submitted again with the same key is the same task.
    """

    delay: Duration | None
    run_at: datetime | None
    key: str | None


Settings: TypeAlias = Mapping[str, Any]
"""Options that have been checked, in the wire's units."""


def checked(options: Mapping[str, Any], *, of: type[Options]) -> Settings:
    """Check `options`, which must be among those of `of`.

    Raises:
        BadTask: one of them cannot be.
    """
    return {name: _checked(name, value, known=list(of.__annotations__)) for name, value in options.items()}


def combined(base: Settings, more: Settings) -> Settings:
    """Let `more` override `base`; delay and instant exclude each other.

    Raises:
        BadTask: both are there.
    """
    both = {**base, **more}
    if both.get("delay") is not None and both.get("run_at") is not None:
        raise BadTask("wanted delay or run_at, found both; leave one out")
    return both


def submitted(kind: str, payload: Raw, settings: Settings, *, key: str, unique: str | None) -> SubmittedTask:
    """Write a task as the wire has it."""
    expires = settings.get("expires")
    return SubmittedTask(
        kind=kind,
        payload=payload,
        key=key,
        priority=settings.get("priority") or 0,
        delay=settings.get("delay"),
        run_at=settings.get("run_at"),
        max_retries=settings.get("max_retries"),
        timeout=settings.get("timeout"),
        expires=None if isinstance(expires, datetime) else expires,
        expires_at=expires.timestamp() if isinstance(expires, datetime) else None,
        unique=unique,
        retry=_policy(settings),
    )


def _checked(name: str, value: Any, *, known: list[str]) -> Any:
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the options here are: {', '.join(known)}"
        raise BadTask(f"there is no option {name!r}; {hint}")
    if value is None:
        return None
    try:
        return _CHECKS[name](value)
    except (ValueError, OverflowError) as error:
        raise BadTask(f"{name}: {error}") from error


def _of_type(wanted: Any) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        try:
            return msgspec.convert(value, wanted)
        except msgspec.ValidationError as error:
            raise ValueError(f"{str(error)[:1].lower()}{str(error)[1:]}, found {value!r}") from error

    return check


def _kind(value: Any) -> str:
    kind: str = _of_type(Kind)(value)
    if "," in kind or kind.split() != [kind]:
        raise ValueError(f"wanted the name of a kind, without commas and blanks, found {kind!r}")
    return kind


def _executor(value: Any) -> Executor:
    if value not in EXECUTORS:
        raise ValueError(f"wanted {', '.join(map(repr, EXECUTORS[:-1]))} or {EXECUTORS[-1]!r}, found {value!r}")
    executor: Executor = value
    return executor


def _instant(value: Any) -> float:
    if not isinstance(value, datetime):
        raise ValueError(f"wanted a datetime, found {value!r}")
    return _aware(value).timestamp()


def _aware(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError(
            f"wanted a datetime with a time zone, found {instant!r}; write for example datetime.now(timezone.utc)"
        )
    return instant


def _positive(value: Any) -> float:
    length_s = seconds_of(value)
    if length_s == 0:
        raise ValueError(f"wanted a duration above 0, found {value!r}")
    return length_s


def _expiry(value: Any) -> float | datetime:
    return _aware(value) if isinstance(value, datetime) else seconds_of(value)


def _backoff(value: Any) -> RetryPolicy:
    if not isinstance(value, Constant | Linear | Exponential):
        raise ValueError(f"wanted dtm.Constant, dtm.Linear or dtm.Exponential, found {value!r}")
    return value.policy()


def _type_names(value: Any) -> list[str]:
    # A text is iterable too, and of no use letter by letter.
    is_many = isinstance(value, Iterable) and not isinstance(value, type | str | bytes)
    types = list(value) if is_many else [value]
    for type_ in types:
        if not (isinstance(type_, type) and issubclass(type_, BaseException)):
            hint = "; write the type itself, without quotes" if isinstance(type_, str) else ""
            raise ValueError(f"wanted exception types, such as (OSError, ValueError), found {type_!r}{hint}")
        if type_ in _UNSAID:
            raise ValueError(f"wanted narrower exception types than {type_.__name__}: it would mean any failure")
    return [type_.__name__ for type_ in types]


def _policy(settings: Settings) -> RetryPolicy | None:
    given = {name: settings[name] for name in ("retry_for", "no_retry_for") if settings.get(name)}
    backoff: RetryPolicy | None = settings.get("retry")
    if backoff is None:
        return RetryPolicy(**given) if given else None
    return structs.replace(backoff, **given)


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "kind": _kind,
    "executor": _executor,
    "priority": _of_type(Priority),
    "timeout": _positive,
    "max_retries": _of_type(Retries),
    "expires": _expiry,
    "unique": _of_type(Key),
    "retry": _backoff,
    "retry_for": _type_names,
    "no_retry_for": _type_names,
    "delay": seconds_of,
    "run_at": _instant,
    "key": _of_type(Key),
}
