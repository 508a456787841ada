"""What a process prints: lines out of a pipe.

Knows no processes and no tasks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO

_READ_SIZE = 64 * 1024
_MOST_LINE = 8 * 1024


class Output:
    """One stream of a process, `stdout` or `stderr`."""

    def __init__(self, pipe: IO[bytes], stream: str) -> None:
        self._pipe = pipe
        self.number = pipe.fileno()
        self.stream = stream
        self.is_closed = False
        self._rest = b""
        os.set_blocking(self.number, False)

    def lines(self) -> Iterator[str]:
        """Give the whole lines that have come, and what is as long as a line may be; waits for nothing."""
        while data := self._read():
            *whole, self._rest = (self._rest + data).split(b"\n")
            yield from map(_text, whole)
            if len(self._rest) > _MOST_LINE:
                yield self.rest()

    def rest(self) -> str:
        """Give what has come of a line that has no end yet."""
        rest, self._rest = self._rest, b""
        return _text(rest)

    def close(self) -> None:
        """Read no more."""
        self.is_closed = True
        self._pipe.close()

    def _read(self) -> bytes:
        if self.is_closed:
            return b""
        try:
            data = os.read(self.number, _READ_SIZE)
        except BlockingIOError:
            return b""
        self.is_closed = not data
        return data


def _text(line: bytes) -> str:
    return line[:_MOST_LINE].decode("utf-8", "backslashreplace").rstrip("\r")
