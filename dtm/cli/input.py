"""Tasks from a line of the command, a file or a pipe: read as they come, never all at once."""

from __future__ import annotations

import asyncio
import threading
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import BinaryIO

import msgspec
from msgspec import Raw, Struct

from dtm.core.errors import DtmError
from dtm.core.escapes import quoted
from dtm.protocol.framing import MAX_VALUE, LineBuffer, LineTooLong
from dtm.protocol.messages import SubmittedTask
from dtm.protocol.values import BadValue, checked

MOST_TASKS = 1_000
MOST_BYTES = 512 * 1024
"""Bounds of one submission; a line of the wire holds twice the bytes."""

_READ_SIZE = 256 * 1024
_EXCERPT = 60
_BLANKS = b" \t\r\n"  # as JSON has them


class BadInput(DtmError):
    """A line that cannot be a task."""


class Template(Struct, frozen=True, kw_only=True):
    """What all tasks of one command have in common; `key` is completed by each task's number."""

    kind: str
    is_json: bool
    key: str
    priority: int
    delay: float | None
    max_retries: int | None

    def task(self, payload: bytes, key: str) -> SubmittedTask:
        """Make a task of a payload.

        Raises:
            BadInput: the payload is no JSON, no UTF-8, or too long.
        """
        raw = _checked_json(payload) if self.is_json else _quoted(payload)
        if len(bytes(raw)) > MAX_VALUE:
            raise BadInput(f"wanted a payload of at most {MAX_VALUE:,} bytes, found {len(bytes(raw)):,}")
        return SubmittedTask(
            kind=self.kind,
            payload=raw,
            key=key,
            priority=self.priority,
            delay=self.delay,
            max_retries=self.max_retries,
        )


async def read_tasks(file: BinaryIO, template: Template) -> AsyncIterator[list[SubmittedTask]]:
    """Give the tasks of `file`, one a line, in lists as large as what has come and the bounds allow.

    Raises:
        BadInput: a line cannot be a task; the message names it, and all lines before it have been given.
    """
    lines = LineBuffer(MAX_VALUE)
    number = 0
    # A buffer waits until it is full, and stays locked while a thread waits in it: Python aborts on that at its end.
    raw = getattr(file, "raw", file)
    while data := await _read_some(raw):
        for part in _parts(lines, data, template, number):
            number += len(part)
            yield part
    if lines.has_rest:
        for part in _parts(lines, b"\n", template, number):
            yield part


def _parts(lines: LineBuffer, data: bytes, template: Template, number: int) -> Iterator[list[SubmittedTask]]:
    part: list[SubmittedTask] = []
    size = 0
    try:
        for line in lines.feed(data):
            number += 1
            part.append(template.task(_bare(line, number), f"{template.key}-{number}"))
            size += len(line)
            if len(part) >= MOST_TASKS or size >= MOST_BYTES:
                yield part
                part, size = [], 0
    except (BadInput, LineTooLong) as error:
        if part:
            yield part
        number += isinstance(error, LineTooLong)
        raise BadInput(f"line {number}: {error}; nothing from this line on is submitted") from error
    if part:
        yield part


def _bare(line: bytes, number: int) -> bytes:
    """Take off what is no part of a line: the CR of CR LF, and the mark that some editors begin a file with."""
    line = line.removesuffix(b"\r")
    return line.removeprefix(BOM_UTF8) if number == 1 else line


async def _read_some(file: BinaryIO) -> bytes:
    """Read what is there, in a thread that the end of the program does not wait for: nobody may ever type anything."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    def tell(data: bytes, error: OSError | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(data)
        else:
            answer.set_exception(error)

    def read() -> None:
        data, failure = b"", None
        try:
            data = file.read(_READ_SIZE)
        except OSError as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, data, failure)

    threading.Thread(target=read, name="input", daemon=True).start()
    return await answer


def _checked_json(payload: bytes) -> Raw:
    try:
        return checked(payload.strip(_BLANKS))
    except BadValue as error:
        raise BadInput(f"wanted JSON, found {quoted(payload, _EXCERPT)}: it {error}") from error


def _quoted(payload: bytes) -> Raw:
    try:
        return Raw(msgspec.json.encode(payload.decode()))
    except UnicodeDecodeError as error:
        raise BadInput(f"wanted UTF-8 text, found {quoted(payload, _EXCERPT)} ({error.reason})") from error
