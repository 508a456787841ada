"""What a client and a process of its pool say to each other: one JSON object a line, over a socket of their own.

Knows no processes and no handlers.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from dtm.protocol.framing import LineBuffer

# A payload or a result, and what stands around it: a traceback, mostly.
MOST_LINE = 4 * 1024 * 1024
_READ_SIZE = 64 * 1024


class Word(Struct, frozen=True, tag=True):
    """A line; its `type` is the class's name."""


class Setup(Word, frozen=True):
    """Where to import from, what to log, and the server that the tasks are from."""

    path: list[str]
    level: int
    origin: dict[str, str]


class Order(Word, frozen=True):
    """Run this task: `source` leads to its handler."""

    task_id: int
    kind: str
    attempt: int
    source: str
    payload: Raw
    max_value: int


class Begun(Word, frozen=True):
    """The handler was found, and begins."""


class Told(Word, frozen=True):
    """So far the task has got."""

    fraction: float | None
    note: str


class Logged(Word, frozen=True):
    """A line for the log; `logger` is the standard library's, empty for structlog."""

    level: int
    logger: str
    event: str
    values: dict[str, Any]


class Succeeded(Word, frozen=True):
    """The task has ended well."""

    value: Raw


class Failed(Word, frozen=True):
    """The task has failed."""

    error: str
    message: str
    traceback: str
    retry: bool
    after_s: float | None
    bases: tuple[str, ...]


class PutOff(Word, frozen=True):
    """The task goes back."""

    delay_s: float | None


Request = Setup | Order
Answer = Begun | Told | Logged | Succeeded | Failed | PutOff

T = TypeVar("T")


class Channel:
    """One end of the socket; messages of type `heard` come in."""

    def __init__(self, end: socket.socket, heard: Any) -> None:
        self.socket = end
        self._lines = LineBuffer(MOST_LINE)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(heard)

    def say(self, *words: Word) -> None:
        """Send words.

        Raises:
            OSError: the other side is gone.
        """
        self.socket.sendall(b"".join(map(_line, words)))

    def hear(self) -> Iterator[Any]:
        """Give what has come; waits for it if nothing has.

        Raises:
            EOFError, OSError: the other side is gone, or this one does not wait.
        """
        data = self.socket.recv(_READ_SIZE)
        if not data:
            raise EOFError
        return map(self._decoder.decode, self._lines.feed(data))


def _line(word: Word) -> bytes:
    line = msgspec.json.encode(word)
    if b"\n" in line:
        # A value may have been written on several lines. Inside a JSON text a line end is never itself.
        line = msgspec.json.format(line, indent=-1)
    return line + b"\n"
