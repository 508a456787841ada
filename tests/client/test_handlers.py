"""Handlers: how they are found, and that every run ends in an outcome."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio
import msgspec
import pytest

from dtm.client.failures import MOST_MESSAGE_CHARACTERS, MOST_TRACEBACK_BYTES, MOST_TRACEBACK_LINES, Failure
from dtm.client.handlers import (
    Handler,
    Outcome,
    Returned,
    Success,
    UnknownKind,
    find,
    registry,
    run_async,
    run_sync,
    select,
)
from dtm.client.verdicts import Reject, Retry, Snooze
from dtm.protocol.values import MAX_DEPTH, BadValue

LIMIT = 1_000


def echo(payload: Any) -> Any:
    """Return what came."""
    return payload


ADD = Handler("Add", sum, payload_type=list[int])
ECHO = Handler("Echo", echo)


def raising(error: BaseException) -> Handler:
    """Make a handler that raises `error`."""

    def fail(payload: Any) -> Any:
        raise error

    return Handler("Fail", fail)


def returning(result: Any) -> Handler:
    """Make a handler that returns `result`."""
    return Handler("Return", lambda payload: result)


def awaiting(handler: Handler) -> Handler:
    """Make a coroutine of the handler's function."""

    async def function(payload: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return handler.function(payload)

    return Handler(handler.kind, function, handler.payload_type)


def run_here(handler: Handler, payload: bytes = b"null") -> Outcome:
    """Run it as a plain function."""
    return run_sync(handler, payload, max_result_bytes=LIMIT)


def run_awaited(handler: Handler, payload: bytes = b"null") -> Outcome:
    """Run it as a coroutine function, in an event loop of its own."""

    async def run() -> Outcome:
        return await run_async(awaiting(handler), payload, max_result_bytes=LIMIT)

    return anyio.run(run)


Run = Callable[..., Outcome]


@pytest.fixture(params=[run_here, run_awaited])
def run(request: pytest.FixtureRequest) -> Run:
    """Both ways to run a handler; every claim of an outcome holds for both."""
    chosen: Run = request.param
    return chosen


def failure_of(outcome: Outcome) -> Failure:
    """Expect a failure."""
    assert isinstance(outcome, Failure)
    return outcome


# --- the registry ---------------------------------------------------------------------------------


def test_handlers_are_found_by_their_kind() -> None:
    """A registry is a plain mapping, in the order of its making."""
    handlers = registry(ADD, ECHO)

    assert list(handlers) == ["Add", "Echo"]
    assert find(handlers, "Echo") is ECHO


def test_a_registry_cannot_be_changed() -> None:
    """Nobody adds a kind behind the client's back."""
    with pytest.raises(TypeError):
        registry(ADD)["Echo"] = ECHO  # type: ignore[index]


def test_two_handlers_of_one_kind_are_refused() -> None:
    """Which of the two would run is not left to chance."""
    with pytest.raises(ValueError, match="wanted one handler for each kind, found Add, Echo, Add"):
        registry(ADD, ECHO, Handler("Add", echo))


@pytest.mark.parametrize("kind", ["", " ", "A B", "A,B", " A", "A\n", "A\u00a0B"])
def test_a_kind_that_no_list_could_name_is_refused(kind: str) -> None:
    """`--kinds A,B` must be able to name every kind."""
    with pytest.raises(ValueError, match="wanted the name of a kind"):
        Handler(kind, echo)


def test_selecting_keeps_the_named_kinds_in_their_order() -> None:
    """`--kinds B,A,B` means B and A."""
    assert list(select(registry(ADD, ECHO), ["Echo", "Add", "Echo"])) == ["Echo", "Add"]
    assert list(select(registry(ADD, ECHO), ["Echo"])) == ["Echo"]


def test_an_unknown_kind_is_answered_with_the_known_ones() -> None:
    """The message names what was asked for and what there is."""
    with pytest.raises(UnknownKind, match="no handler runs the kind 'Ad'; the kinds known here are: Add, Echo"):
        select(registry(ADD, ECHO), ["Add", "Ad"])
    with pytest.raises(UnknownKind, match="the kinds known here are: none"):
        find(registry(), "Add")


def test_a_handler_knows_whether_it_must_be_awaited() -> None:
    """A coroutine function, also as an object's call, is run in the event loop; all else in a thread."""

    class Called:
        async def __call__(self, payload: Any) -> Any:
            return payload

    assert awaiting(ECHO).is_async
    assert Handler("Called", Called()).is_async
    assert not ECHO.is_async
    assert not ADD.is_async
    assert not Handler("Type", str).is_async


# --- success --------------------------------------------------------------------------------------


def test_a_run_decodes_calls_and_encodes(run: Run) -> None:
    """The payload arrives as the handler's type, and its result leaves as JSON."""
    assert run(ADD, b" [1, 2, 3] ") == Success(msgspec.Raw(b"6"))


def test_a_raw_payload_is_taken_as_well() -> None:
    """The payload of a `Task` message can be passed on as it is."""
    assert run_sync(ADD, msgspec.Raw(b"[1,2]"), max_result_bytes=LIMIT) == Success(msgspec.Raw(b"3"))


@dataclass
class Point:
    """A result that msgspec can write."""

    x: int


@pytest.mark.parametrize(
    ("result", "json"),
    [
        (None, b"null"),
        (True, b"true"),
        ("é\0", '"é\\u0000"'.encode()),
        (Point(1), b'{"x":1}'),
        (2**200, str(2**200).encode()),
        ("x" * (LIMIT - 2), b'"' + b"x" * (LIMIT - 2) + b'"'),
    ],
)
def test_a_result_is_written_as_json(run: Run, result: object, json: bytes) -> None:
    """Whatever has a JSON form, up to the last byte allowed."""
    assert run(returning(result)) == Success(msgspec.Raw(json))


# --- failure --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("boom"),
        SystemExit("boom"),
        GeneratorExit("boom"),
        MemoryError("boom"),
        BaseExceptionGroup("boom", [SystemExit(1)]),
        type("Odd", (BaseException,), {})("boom"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_handler_raises_is_a_failure_to_be_tried_again(run: Run, error: BaseException) -> None:
    """Not even SystemExit ends the client."""
    failure = failure_of(run(raising(error)))

    assert failure.type == type(error).__name__
    assert failure.message.startswith("boom")
    assert failure.retry
    assert ", in fail\n" in failure.traceback
    assert "boom" in failure.traceback.splitlines()[-1] or "SystemExit" in failure.traceback


def test_a_rejected_task_is_not_tried_again(run: Run) -> None:
    """`Reject` and its subclasses say that another attempt cannot go better."""

    class NoSuchCustomer(Reject):
        pass

    assert failure_of(run(raising(Reject("bad input")))).retry is False
    assert failure_of(run(raising(NoSuchCustomer("7")))).retry is False


@pytest.mark.parametrize(
    "payload",
    [b"5", b'["a"]', b"null", b"[1", b"", b"[1]]", b'["\xff"]', b"[" + b"9" * 5_000 + b"]"],
    ids=["type", "item", "null", "cut", "empty", "trailing", "utf-8", "huge"],
)
def test_a_payload_of_another_form_is_rejected(run: Run, payload: bytes) -> None:
    """The handler is not called, and the message quotes what came."""
    failure = failure_of(run(ADD, payload))

    assert failure.type == "BadPayload"
    assert failure.message.startswith("Add wanted another payload: ")
    assert len(failure.message) < 300
    assert not failure.retry


def test_a_payload_too_deep_to_read_is_rejected(run: Run) -> None:
    """Whatever the handler takes."""
    failure = failure_of(run(ECHO, b"[" * 100_000))

    assert failure.type == "BadPayload"
    assert "(100,000 characters)" in failure.message


class Opaque:
    """A result without a JSON form."""


@dataclass
class Boxed:
    """A result with a field."""

    value: float


def nested(levels: int) -> list[Any]:
    """Give lists inside one another."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "result",
    [None, [None], "null", {"null": None}, [msgspec.Raw(b"null")], Boxed(1e308), nested(MAX_DEPTH), {1: None}, {7}],
    ids=["null", "list", "text", "key", "raw", "dataclass", "depth", "number as key", "set"],
)
def test_what_looks_like_a_result_that_cannot_be_sent_is_sent(run: Run, result: object) -> None:
    """A null is a null; only what would silently become one is refused."""
    outcome = run(returning(result))

    assert isinstance(outcome, Success)
    assert bytes(outcome.value) == msgspec.json.encode(result)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        (Opaque(), "a Opaque that is no JSON"),
        ({(1, 2): 3}, "a dict that is no JSON"),
        ("\ud800", "a str that is no JSON"),
        (10**5_000, "a int that is no JSON"),
        (iter([]), "a list_iterator that is no JSON"),
        (math.nan, "a float that is no JSON"),
        ({"a": [1.5, -math.inf, None]}, "a dict that is no JSON"),
        ([msgspec.Raw(b"null"), math.nan], "a list that is no JSON"),
        ({"a": "\udcff"}, "a dict that is no JSON"),
        (Boxed(math.inf), "a Boxed that is no JSON"),
        (msgspec.Raw(b"NaN"), "cannot be sent: it is no JSON ("),
        (msgspec.Raw(b'1,"retry":false'), "cannot be sent: it is no JSON ("),
        ([msgspec.Raw(b'"\xff"')], "cannot be sent: it is no JSON ("),
        (nested(MAX_DEPTH + 1), "it nests more than 128 lists and objects"),
        (nested(3_000), "a list that is no JSON"),
        ("x" * (LIMIT - 1), "at most 1,000 bytes of JSON, found 1,001"),
    ],
    ids=[
        *("object", "keys", "surrogate", "digits", "iterator", "nan", "infinity", "nan and raw", "escaped byte"),
        *("dataclass", "raw nan", "raw fields", "raw utf-8", "deep", "deepest", "length"),
    ],
)
def test_a_result_that_cannot_be_sent_is_rejected(run: Run, result: object, found: str) -> None:
    """Running it again would give the same; the message says what a handler may return."""
    failure = failure_of(run(returning(result)))

    assert failure.type == "BadResult"
    assert found in failure.message
    assert not failure.retry


def test_a_result_that_holds_itself_is_rejected(run: Run) -> None:
    """It has no end, so it has no JSON."""
    endless: list[Any] = []
    endless.append(endless)

    assert failure_of(run(returning(endless))).type == "BadResult"


def test_text_of_a_failure_can_always_be_sent(run: Run) -> None:
    """Lone surrogates, as in the names of odd files, are written as escapes."""
    failure = failure_of(run(raising(OSError("no file \udcff"))))

    assert failure.message == "no file \\udcff"
    assert "\\udcff" in failure.traceback
    assert msgspec.json.encode(failure.message)


def test_a_message_is_clipped(run: Run) -> None:
    """Its beginning says what went wrong."""
    failure = failure_of(run(raising(ValueError("é" * 5_000))))

    assert failure.message == "é" * (MOST_MESSAGE_CHARACTERS - 1) + "…"
    assert failure_of(run(raising(ValueError("é" * 1_000)))).message == "é" * 1_000


def test_a_traceback_keeps_its_last_lines(run: Run) -> None:
    """The innermost call and the message stand at the end."""
    failure = failure_of(run(raising(ValueError("\n".join(f"line {n}" for n in range(200))))))

    lines = failure.traceback.splitlines()
    assert len(lines) == MOST_TRACEBACK_LINES
    assert lines[-1] == "line 199"


def test_a_traceback_is_clipped_in_bytes(run: Run) -> None:
    """One long line may not make the result too long to send, nor be cut inside a character."""
    failure = failure_of(run(raising(ValueError("é" * 100_000 + "end"))))

    assert MOST_TRACEBACK_BYTES - 2 < len(failure.traceback.encode()) <= MOST_TRACEBACK_BYTES
    assert failure.traceback.endswith("éend")


@pytest.mark.parametrize("fault", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_an_exception_without_a_readable_message_is_a_failure(run: Run, fault: type[BaseException]) -> None:
    """A broken __str__ is the handler's fault too, and does not end the client."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise fault

    failure = failure_of(run(raising(Broken())))

    assert failure.type == "Broken"
    assert f"str() raised {fault.__name__}" in failure.message


# --- what passes ----------------------------------------------------------------------------------


def test_ctrl_c_in_the_main_thread_passes() -> None:
    """The user's interrupt is no handler's failure."""
    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(KeyboardInterrupt):
        run_here(raising(KeyboardInterrupt()))


def test_an_interrupt_raised_in_a_thread_is_a_failure() -> None:
    """Ctrl-C reaches the main thread only: elsewhere the handler itself has raised it."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run_here(raising(KeyboardInterrupt()))))
    thread.start()
    thread.join()

    assert failure_of(outcomes[0]).type == "KeyboardInterrupt"


def test_cancellation_passes() -> None:
    """A cancelled coroutine ends as cancelled, not as failed."""

    async def sleep(payload: Any) -> None:
        await anyio.sleep_forever()

    async def run() -> bool:
        with anyio.move_on_after(0) as scope:
            await run_async(Handler("Sleep", sleep), b"null", max_result_bytes=LIMIT)
        return scope.cancelled_caught

    assert anyio.run(run)


def test_a_coroutine_run_in_a_thread_by_mistake_is_rejected() -> None:
    """Its coroutine object is no JSON, and the message says so."""
    coroutine = awaiting(ECHO).function(None)
    outcome = run_here(returning(coroutine))
    coroutine.close()

    assert inspect.iscoroutine(coroutine)
    assert "a coroutine that is no JSON" in failure_of(outcome).message


def test_a_cancelled_error_of_a_thread_is_a_failure() -> None:
    """A thread cannot be cancelled; an event loop that a handler ran for itself can leak such an error."""
    assert failure_of(run_here(raising(asyncio.CancelledError()))).type == "CancelledError"


# Where it runs, and what it says of its task.


def test_a_coroutine_function_runs_in_the_event_loop_and_any_other_in_a_thread() -> None:
    """Unless it is to run in a process."""
    assert (ECHO.executor, awaiting(ECHO).executor) == ("thread", "async")
    assert Handler("Echo", echo, executor="process", source="m:a").executor == "process"


@pytest.mark.parametrize(
    ("executor", "complaint"),
    [("async", "a coroutine function"), ("process", "a place"), ("fork", "one of thread, async, process")],
)
def test_a_function_must_fit_its_executor(executor: Any, complaint: str) -> None:
    """Said where the handler is made."""
    with pytest.raises(ValueError, match=f"Echo: wanted {complaint}"):
        Handler("Echo", echo, executor=executor)


@pytest.mark.parametrize(
    ("after", "after_s"), [(None, None), ("1m", 60.0), (0.5, 0.5), (timedelta(hours=1), 3_600.0), (0, 0.0)]
)
def test_a_handler_says_when_to_try_again(after: Any, after_s: float | None) -> None:
    """It spends a retry as any failure does."""
    failed = failure_of(run_here(raising(Retry(after, "come later"))))

    assert (failed.type, failed.message, failed.retry, failed.after_s) == ("Retry", "come later", True, after_s)
    assert "another try" in failure_of(run_here(raising(Retry()))).message


@pytest.mark.parametrize(("delay", "delay_s"), [("10m", 600.0), (3, 3.0), (timedelta(minutes=1), 60.0)])
def test_a_handler_puts_its_task_off(delay: Any, delay_s: float) -> None:
    """It goes back, and nobody is to blame."""
    assert run_here(raising(Snooze(delay))) == Returned(delay_s)
    assert run_awaited(raising(Snooze(delay))) == Returned(delay_s)


def test_a_slip_in_a_duration_fails_the_task() -> None:
    """With the words that say how durations are written."""

    def fail(_: object) -> None:
        raise Retry("1 minute")

    failed = failure_of(run_here(Handler("Fail", fail)))
    assert (failed.type, failed.retry) == ("ValueError", True)
    assert "wanted a duration such as" in failed.message


def test_a_failure_names_what_it_is_a_kind_of() -> None:
    """For the retry policy: the nearest first, without what every exception is."""

    class Odd(BadValue, KeyError):
        pass

    assert failure_of(run_here(raising(Odd()))).bases == ("BadValue", "ValueError", "KeyError", "LookupError")
    assert failure_of(run_here(raising(Exception()))).bases == ()
