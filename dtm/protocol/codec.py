"""Messages out of lines and lines out of messages; every way a line can be wrong has its code.

Knows no sockets and no order of messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec
from msgspec import UNSET, Struct, UnsetType

from dtm.protocol.messages import ClientMessage, Int64, Message, ServerMessage


class ErrorCode(StrEnum):
    """What an `Error` says to a program."""

    BAD_JSON = "bad-json"
    BAD_MESSAGE = "bad-message"
    LINE_TOO_LONG = "line-too-long"
    PAYLOAD_TOO_LARGE = "payload-too-large"
    TOO_MANY_TASKS = "too-many-tasks"
    RESPONSE_TOO_LARGE = "response-too-large"
    NOT_REGISTERED = "not-registered"
    KEY_CONFLICT = "key-conflict"
    REFUSED = "refused"
    SHUTTING_DOWN = "shutting-down"
    FORBIDDEN = "forbidden"
    UNKNOWN_COMMAND = "unknown-command"
    BAD_ARGUMENTS = "bad-arguments"


class BadLine(ValueError):
    """A line that is no message: what to answer, and whether the connection can go on."""

    def __init__(self, code: ErrorCode, message: str, *, ref: int | UnsetType = UNSET) -> None:
        super().__init__(message)
        self.code = code
        self.ref = ref

    @property
    def is_fatal(self) -> bool:
        """Whether what follows on the same connection cannot be trusted."""
        return self.code is ErrorCode.BAD_JSON


class _Reference(Struct, frozen=True):
    """The one field that an answer needs of a message which is wrong elsewhere."""

    ref: Int64 | UnsetType = UNSET


_ENCODER = msgspec.json.Encoder()
_CLIENT_DECODER = msgspec.json.Decoder(ClientMessage)
_SERVER_DECODER = msgspec.json.Decoder(ServerMessage)
_REFERENCE_DECODER = msgspec.json.Decoder(_Reference)


def encode(message: Message) -> bytes:
    """Give the line of `message`, its end included."""
    line = _ENCODER.encode(message)
    if b"\n" in line:
        # A `Raw` may have been written on several lines. Inside a JSON text a line end is never itself.
        line = msgspec.json.format(line, indent=-1)
    return line + b"\n"


def encode_all(messages: Sequence[Message]) -> bytes:
    """Give the lines of `messages`, one after the other, as one piece for one write."""
    lines = _ENCODER.encode_lines(messages)
    if lines.count(b"\n") != len(messages):
        return b"".join(map(encode, messages))
    return lines


def decode_from_client(line: bytes) -> ClientMessage:
    """Read what a client sent.

    Raises:
        BadLine: `line` is not JSON, or not one of the messages a client may send.
    """
    try:
        message: ClientMessage = _CLIENT_DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_line(line, error) from error
    return message


def decode_from_server(line: bytes) -> ServerMessage:
    """Read what the server sent.

    Raises:
        BadLine: `line` is not JSON, or not one of the messages the server may send.
    """
    try:
        message: ServerMessage = _SERVER_DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_line(line, error) from error
    return message


def _bad_line(line: bytes, error: Exception) -> BadLine:
    if isinstance(error, msgspec.ValidationError):
        return BadLine(ErrorCode.BAD_MESSAGE, f"{error} in {_excerpt(line)}", ref=_reference(line))
    if isinstance(error, RecursionError):
        return BadLine(ErrorCode.BAD_JSON, f"JSON nested too deeply in {_excerpt(line)}")
    return BadLine(ErrorCode.BAD_JSON, f"wanted one JSON object a line, found {_excerpt(line)} ({error})")


def _reference(line: bytes) -> int | UnsetType:
    try:
        return _REFERENCE_DECODER.decode(line).ref
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UNSET


def _excerpt(line: bytes, most: int = 80) -> str:
    text = line[:most].decode("utf-8", "backslashreplace")
    return ascii(text) + ("…" if len(line) > most else "")
