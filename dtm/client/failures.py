"""What is told of a task that failed: a few clipped words that any store can hold.

Knows no handlers: it only puts an exception into words.
"""

from __future__ import annotations

import traceback

from msgspec import Struct

MOST_MESSAGE_CHARACTERS = 1_000
MOST_TRACEBACK_LINES = 50
MOST_TRACEBACK_BYTES = 16 * 1024
_MOST_TYPE_CHARACTERS = 200
_MOST_BASES = 20
# Nobody means these: every exception is one.
_EVERYBODYS = (Exception, BaseException, object)


class Failure(Struct, frozen=True):
    """Why a run failed, and whether another may go better; every text of it can be sent as UTF-8.

    `bases` are the names of the types that the error is a kind of, the nearest first.
    """

    type: str
    message: str
    traceback: str
    retry: bool
    after_s: float | None = None
    bases: tuple[str, ...] = ()


def failure(error: BaseException, *, retry: bool, after_s: float | None = None) -> Failure:
    """Put `error` into words: its type, its message and the end of its traceback."""
    return Failure(
        type=_name(type(error)),
        message=_beginning(_encodable(_message(error)), MOST_MESSAGE_CHARACTERS),
        traceback=_end(_encodable("".join(traceback.format_exception(error)))),
        retry=retry,
        after_s=after_s,
        bases=tuple(_name(base) for base in type(error).__mro__[1:] if base not in _EVERYBODYS)[:_MOST_BASES],
    )


def excerpt(text: str, most: int = 60) -> str:
    """Quote `text` for a message: whole if it is short, else its two ends and its length."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}…{text[-half:]} ({len(text):,} characters)"


def _name(kind: type) -> str:
    return _encodable(kind.__name__)[:_MOST_TYPE_CHARACTERS]


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:  # noqa: BLE001  an exception's own __str__ is a handler's code too
        return f"(its message cannot be read: str() raised {type(broken).__name__})"


def _encodable(text: str) -> str:
    """Write lone surrogates as escapes: UTF-8 has no bytes for them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _beginning(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _end(text: str) -> str:
    """Keep the last lines: the innermost call and the message stand there."""
    lines = "\n".join(text.splitlines()[-MOST_TRACEBACK_LINES:])
    return lines.encode("utf-8")[-MOST_TRACEBACK_BYTES:].decode("utf-8", "ignore")
