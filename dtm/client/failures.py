"""What is told of a task that failed: a few clipped words that any store can hold.

Knows no handlers: it only puts an exception into words.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass

MOST_MESSAGE_CHARACTERS = 1_000
MOST_TRACEBACK_LINES = 50
MOST_TRACEBACK_BYTES = 16 * 1024
_MOST_TYPE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed, and whether another may go better; every text of it can be sent as UTF-8."""

    type: str
    message: str
    traceback: str
    retry: bool


def failure(error: BaseException, *, retry: bool) -> Failure:
    """Put `error` into words: its type, its message and the end of its traceback."""
    return Failure(
        type=_encodable(type(error).__name__)[:_MOST_TYPE_CHARACTERS],
        message=_beginning(_encodable(_message(error)), MOST_MESSAGE_CHARACTERS),
        traceback=_end(_encodable("".join(traceback.format_exception(error)))),
        retry=retry,
    )


def excerpt(text: str, most: int = 60) -> str:
    """Quote `text` for a message: whole if it is short, else its two ends and its length."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}…{text[-half:]} ({len(text):,} characters)"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  an exception's own __str__ is a handler's code too
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
