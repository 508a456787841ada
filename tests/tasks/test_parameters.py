"""What a function takes and returns travels as JSON, and is checked before it is sent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from dtm.client.failures import Failure
from dtm.client.handlers import Success, run_async, run_sync
from dtm.protocol.framing import MAX_VALUE
from dtm.tasks.app import App
from dtm.tasks.errors import BadArguments, BadTask, UnexpectedResult
from dtm.tasks.task import Task


class Colour(Enum):
    """An enum."""

    RED = "red"


@dataclass
class Box:
    """A dataclass that may hold others of its kind."""

    width: int
    inner: list[Box] = field(default_factory=list)

    def unpack(self, inner: int) -> None:
        """Be a method."""


class Point(msgspec.Struct, frozen=True):
    """A Struct."""

    x: float


def describe(
    box: Box, at: datetime, colour: Colour, raw: bytes, id: UUID, point: Point, *, more: dict[str, int] | None = None
) -> list[str]:
    """Take one of everything."""
    return [repr(value) for value in (box, at, colour, raw, id, point, more)]


def resize(path: str, width: int = 800, *, tags: list[str] = []) -> str:  # noqa: B006
    """Take defaults, one of which is mutable."""
    return f"{path} {width} {tags}"


def square(number: float, /) -> float:
    """Take a whole payload."""
    return number * number


def place(first: int = 1, second: int = 2, /, third: int = 3) -> list[int]:
    """Take some by position only."""
    return [first, second, third]


async def awaited(text: str = "x") -> str:
    """Be a coroutine function."""
    return text


def task(function: Callable[..., Any]) -> Task[..., Any]:
    """Make it a task."""
    made: Task[..., Any] = App().task(function)
    return made


def travelled(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Send a call to a worker and its result back, by the bytes."""
    made = task(function)
    outcome = run_sync(made.handler, made.parameters.payload(args, kwargs), max_result_bytes=MAX_VALUE)
    assert isinstance(outcome, Success), outcome
    return made.parameters.result(outcome.value)


def test_values_of_all_sorts_arrive_as_they_were() -> None:
    """Dataclasses, datetimes, enums, bytes, UUIDs, Structs: the function sees what was submitted."""
    box = Box(1, [Box(2)])
    args = (box, datetime.now(UTC), Colour.RED, b"\x00\xff", UUID(int=7), Point(0.1))

    assert travelled(describe, *args, more={"a": 1}) == describe(*args, more={"a": 1})


@pytest.mark.parametrize(
    ("args", "kwargs", "payload"),
    [
        (("a.png",), {}, b'{"path":"a.png"}'),
        (("a.png", 3), {}, b'{"path":"a.png","width":3}'),
        ((), {"width": 3, "path": "a.png"}, b'{"path":"a.png","width":3}'),
        (("a.png",), {"tags": ["x"]}, b'{"path":"a.png","tags":["x"]}'),
    ],
)
def test_a_payload_names_the_parameters_that_were_given(
    args: tuple[Any, ...], kwargs: dict[str, Any], payload: bytes
) -> None:
    """What is left out stays the function's default, also one that changes later."""
    assert bytes(task(resize).parameters.payload(args, kwargs)) == payload
    assert travelled(resize, *args, **kwargs) == resize(*args, **kwargs)


def test_a_sole_positional_only_parameter_is_the_whole_payload() -> None:
    """So that programs without Python can submit plain values."""
    assert bytes(task(square).parameters.payload((1.5,), {})) == b"1.5"
    assert travelled(square, 3) == 9


@pytest.mark.parametrize(("payload", "result"), [(b"{}", [1, 2, 3]), (b'{"second":5}', [1, 5, 3])])
def test_positional_only_parameters_keep_their_places(payload: bytes, result: list[int]) -> None:
    """Even where one before them is left out."""
    outcome = run_sync(task(place).handler, payload, max_result_bytes=100)

    assert isinstance(outcome, Success)
    assert msgspec.json.decode(outcome.value) == result


async def test_a_coroutine_function_is_awaited() -> None:
    """And takes its arguments in the same way."""
    outcome = await run_async(task(awaited).handler, b'{"text":"hello"}', max_result_bytes=100)

    assert isinstance(outcome, Success)
    assert bytes(outcome.value) == b'"hello"'


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "complaint"),
    [
        (resize, ("a", "3"), {}, "resize: parameter 'width': expected `int`, got `str`; found '3'"),
        (resize, (), {}, "resize(path: str, width: int = 800, *, tags: list[str] = []) -> str: missing a required"),
        (resize, ("a",), {"wdth": 1}, "got an unexpected keyword argument 'wdth'"),
        (resize, ("a", 1, []), {}, "too many positional arguments"),
        (resize, ("a",), {"tags": ["x", 1]}, "parameter 'tags[1]': expected `str`, got `int`; found ['x', 1]"),
        (resize, (Path("/"),), {}, "wanted JSON for the parameter 'path', found PosixPath('/')"),
        (resize, ("\ud800",), {}, "wanted JSON for the parameter 'path', found '\\ud800'"),
        (resize, ("x" * MAX_VALUE,), {}, f"wanted arguments of at most {MAX_VALUE:,} bytes"),
        (square, ("3",), {}, "square: parameter 'number': expected `float`, got `str`; found '3'"),
        (square, (math.nan,), {}, "wanted JSON for the parameter 'number', found nan"),
        (describe, (Box("x"), *[None] * 5), {}, "describe: parameter 'box.width': expected `int`, got `str`"),  # type: ignore[arg-type]
    ],
)
def test_arguments_that_do_not_fit_are_refused_where_they_are_submitted(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], complaint: str
) -> None:
    """With the parameter, what was wanted of it and what was found."""
    with pytest.raises(BadArguments) as caught:
        task(function).parameters.payload(args, kwargs)

    assert complaint in str(caught.value)


@pytest.mark.parametrize("payload", [b'{"path":1}', b'{"path":"a","wdth":1}', b"{}", b'"a"', b"[]"])
def test_a_payload_that_does_not_fit_fails_for_good_at_the_worker(payload: bytes) -> None:
    """Whoever wrote it: another try would not go better."""
    outcome = run_sync(task(resize).handler, payload, max_result_bytes=100)

    assert isinstance(outcome, Failure)
    assert (outcome.type, outcome.retry) == ("BadPayload", False)


def test_a_result_of_another_type_is_told() -> None:
    """With what it is: the worker may run other code than is here."""
    with pytest.raises(UnexpectedResult, match="expected `str`, got `int`; found 7"):
        task(resize).parameters.result(msgspec.Raw(b"7"))


def test_the_same_arguments_have_the_same_digest() -> None:
    """However they are written, and whether the defaults are written out."""
    digest = task(resize).parameters.digest
    same = [digest(("a",), {}), digest(("a", 800), {}), digest((), {"width": 800, "path": "a", "tags": []})]

    assert len({*same}) == 1
    assert digest(("a", 801), {}) != same[0]


def taken_name(*, __x: int) -> None:
    """Take what Python would call by another name in a class."""


def var_args(*args: int) -> None:
    """Take any number."""


def unknown(x: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Take what is not there."""


def nested(x: list[dict[str, Path]]) -> None:
    """Take what JSON has not, deep inside."""


def strange_result() -> complex:
    """Return what JSON has not."""
    return 1j


def yields() -> Any:
    """Yield."""
    yield


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (Box.unpack, "unpack: wanted a function, found a method of Box; write it outside of the class"),
        (taken_name, "taken_name: its parameters cannot travel as JSON: "),
        (var_args, "wanted parameters that each have a name, found *args"),
        (unknown, "its annotations cannot be read: name 'Nowhere' is not defined"),
        (nested, "its parameter 'x' cannot travel as JSON: Path is no type of it"),
        (strange_result, "its result cannot travel as JSON: complex is no type of it"),
        (yields, "wanted a function that returns its result, found one that yields"),
        (Box, "wanted a function, found <class"),
        (len, "wanted a function, found <built-in function len>"),
        (task(resize), "wanted a function, found <dtm task 'resize'>"),
    ],
)
def test_a_function_that_cannot_be_a_task_is_refused_at_once(function: Callable[..., Any], complaint: str) -> None:
    """With the parameter and the reason."""
    with pytest.raises(BadTask) as caught:
        task(function)

    assert complaint in str(caught.value)


def test_a_parameter_may_have_any_name() -> None:
    """Also one that the API's own methods might have."""

    def link(self: int, kind: str, app: str, args: int = 0) -> str:
        return f"{self}{kind}{app}{args}"

    payload = b'{"self":1,"kind":"k","app":"a"}'
    linked = App().task(link)

    assert linked(self=1, kind="k", app="a") == "1ka0"
    assert linked.args(self=1, kind="k", app="a").kwargs == {"self": 1, "kind": "k", "app": "a"}
    assert bytes(linked.parameters.payload((), {"self": 1, "kind": "k", "app": "a"})) == payload
    assert run_sync(linked.handler, payload, max_result_bytes=100) == Success(msgspec.Raw(b'"1ka0"'))
