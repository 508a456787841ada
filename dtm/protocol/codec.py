"""Messages out of lines and lines out of messages; every way a line can be wrong has its code.

Knows no sockets and no order of messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from dtm.core.escapes import escaped, quoted
from dtm.protocol.messages import ClientMessage, Int64, Message, ServerMessage
from dtm.protocol.values import NOT_JSON, require_json, require_utf8

Decoded = TypeVar("Decoded")

# Bytes of a wrong line that its refusal shows.
_QUOTED = 80


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
    STORE_BUSY = "store-busy"
    LOW_DISK = "low-disk"
    OVERLOADED = "overloaded"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    TOO_SLOW = "too-slow"
    TLS_REQUIRED = "tls-required"
    UNAUTHENTICATED = "unauthenticated"
    SHUTTING_DOWN = "shutting-down"
    FORBIDDEN = "forbidden"
    UNKNOWN_COMMAND = "unknown-command"
    BAD_ARGUMENTS = "bad-arguments"


PASSING = frozenset(
    {
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.STORE_BUSY,
        ErrorCode.LOW_DISK,
        ErrorCode.OVERLOADED,
        ErrorCode.TOO_MANY_CONNECTIONS,
    }
)
"""Refusals of this moment: nothing is wrong with the request, and later it may be granted."""


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
_CLIENT_DECODER: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_SERVER_DECODER: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
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
    return _decode(_CLIENT_DECODER, line)


def decode_from_server(line: bytes) -> ServerMessage:
    """Read what the server sent.

    Raises:
        BadLine: `line` is not JSON, or not one of the messages the server may send.
    """
    return _decode(_SERVER_DECODER, line)


def _decode(decoder: msgspec.json.Decoder[Decoded], line: bytes) -> Decoded:
    try:
        require_utf8(line)
        return decoder.decode(line)
    except msgspec.ValidationError as error:
        raise _bad_message(line, error) from error
    except NOT_JSON as error:
        raise _bad_json(line, error) from error


def _bad_message(line: bytes, error: msgspec.ValidationError) -> BadLine:
    try:
        # A wrong field ends the decoding; whether a line is JSON must not depend on where its first fault stands.
        require_json(line)
    except NOT_JSON as worse:
        return _bad_json(line, worse)
    return BadLine(ErrorCode.BAD_MESSAGE, f"{escaped(str(error))} in {quoted(line, _QUOTED)}", ref=_reference(line))


def _bad_json(line: bytes, error: Exception) -> BadLine:
    if isinstance(error, RecursionError):
        return BadLine(ErrorCode.BAD_JSON, f"JSON nested too deeply in {quoted(line, _QUOTED)}")
    return BadLine(ErrorCode.BAD_JSON, f"wanted one JSON object a line, found {quoted(line, _QUOTED)} ({error})")


def _reference(line: bytes) -> int | UnsetType:
    try:
        return _REFERENCE_DECODER.decode(line).ref
    except NOT_JSON:
        return UNSET
