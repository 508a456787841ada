"""From the wire's words to the store's: seconds become microseconds, bytes become text, limits are checked."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw

from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.protocol.framing import MAX_VALUE
from dtm.protocol.messages import ClientMessage, SubmittedTask
from dtm.protocol.values import MAX_DEPTH, is_too_deep
from dtm.server.limits import Limits
from dtm.storage.batch import Failed, Failure, NewTask, Progress, Released, Submission, Success
from dtm.storage.receipt import Cause, Refused

MICROSECONDS = 1_000_000


class Unacceptable(Exception):
    """A message that is well formed and still asks for what cannot be."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Dismissed(Unacceptable):
    """A message after which nothing more is heard: the connection ends with the answer to it."""


_CODES = {
    Cause.CONTENT: ErrorCode.REFUSED,
    Cause.KEY_CONFLICT: ErrorCode.KEY_CONFLICT,
    Cause.BUSY: ErrorCode.STORE_BUSY,
}


def left_out(refused: Refused, message: ClientMessage) -> messages.Error:
    """Give the answer to a message that the store left out."""
    return refusal(_CODES[refused.cause], refused.reason, message)


def refusal(code: ErrorCode, reason: str, message: ClientMessage) -> messages.Error:
    """Give the answer to a message that nothing was done of."""
    return messages.Error(code, reason, getattr(message, "ref", UNSET))


def submission(message: messages.Submit, limits: Limits) -> Submission:
    """Give the tasks of a `Submit`.

    Raises:
        Unacceptable: they are too many, or one of them cannot be a task.
    """
    if len(message.tasks) > limits.max_tasks_per_submit:
        raise Unacceptable(
            ErrorCode.TOO_MANY_TASKS,
            f"wanted at most {limits.max_tasks_per_submit:,} tasks, found {len(message.tasks):,}; submit them in parts",
        )
    return Submission(tuple([_new_task(task, limits.max_payload) for task in message.tasks]))


def outcome(message: messages.Result) -> Success | Failed:
    """Give what a `Result` says of its attempt.

    Raises:
        Unacceptable: the value is too large or too deep.
    """
    if message.ok:
        return Success(_text(message.value, "value", MAX_VALUE))
    error = message.error or messages.Failure("Unknown", "the client gave no reason")
    bases = () if error.bases is UNSET else tuple(error.bases)
    failure = Failure(error.type, error.message, error.traceback)
    return Failed(failure, message.retry, _microseconds(message.after), bases)


def release(message: messages.Release) -> Released:
    """Give what a `Release` says of its attempt."""
    return Released(_microseconds(message.delay))


def progress(message: messages.Progress) -> Progress:
    """Give what a running task says of itself."""
    # It has no answer in which it could be refused, and no column holds a NUL.
    return Progress(message.fraction, message.note.replace("\0", "\\0"))


def _new_task(task: SubmittedTask, max_payload: int) -> NewTask:
    if task.delay is not None and task.run_at is not None:
        raise Unacceptable(ErrorCode.BAD_MESSAGE, "wanted delay or run_at, found both")
    if task.expires is not None and task.expires_at is not None:
        raise Unacceptable(ErrorCode.BAD_MESSAGE, "wanted expires or expires_at, found both")
    return NewTask(
        task.kind,
        _text(task.payload, "payload", max_payload),
        task.key,
        task.priority,
        _microseconds(task.delay),
        _microseconds(task.run_at),
        task.max_retries,
        _microseconds(task.timeout),
        _microseconds(task.expires),
        _microseconds(task.expires_at),
        task.unique,
        None if task.retry is None else msgspec.json.encode(task.retry).decode(),
    )


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * MICROSECONDS)


def _text(raw: Raw, what: str, most: int) -> str:
    data = bytes(raw)
    if len(data) > most:
        raise Unacceptable(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"wanted a {what} of at most {most:,} bytes, found {len(data):,}; keep it elsewhere, send its name",
        )
    if is_too_deep(data):
        raise Unacceptable(
            ErrorCode.BAD_MESSAGE, f"wanted a {what} nested at most {MAX_DEPTH} deep, found it deeper; flatten it"
        )
    return data.decode()  # the codec has seen to it that this works
