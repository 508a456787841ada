"""Lines out of bytes, sans-IO.

Knows no sockets and nothing of what a line holds.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_LINE = 1024 * 1024
# A task's payload and a result's value travel again inside `Task` and `QueryResponse` with more fields around
# them than when they came; so much of the line is left for those.
AROUND_VALUE = 64 * 1024
MAX_VALUE = MAX_LINE - AROUND_VALUE

MAX_ANSWER = 8 * 1024 * 1024
"""The longest `AdminResponse`: a task with its payload, its result and its error may be a row of it."""


class LineTooLong(ValueError):
    """The peer sent more than a line may hold; what follows cannot be understood any more."""


class LineBuffer:
    """Collects bytes and gives the whole lines among them, without their ends."""

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self.max_line = max_line
        self._rest: list[bytes] = []
        self._rest_size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give each line that `data` completes.

        Raises:
            LineTooLong: on reaching a line, finished or not, of more than `max_line` bytes.
        """
        head, *lines = data.split(b"\n")
        if lines:
            lines.insert(0, b"".join((*self._rest, head)))
            self._rest, self._rest_size = [], 0
            head = lines.pop()
        self._rest.append(head)
        self._rest_size += len(head)
        # The rest is kept by now: whoever takes the first line and leaves would find that line in it again.
        for line in lines:
            yield self._checked(line)
        if self._rest_size > self.max_line:
            raise self._too_long()

    def whole_line(self, data: bytes, start: int) -> bytes | None:
        """Give the line that begins at `start` of `data`, if it ends there too; None if `feed` has to look at it."""
        end = data.find(b"\n", start)
        if end < 0 or end - start > self.max_line or self.has_rest:
            return None
        return data[start:end]

    @property
    def has_rest(self) -> bool:
        """Whether a line has begun that no byte so far ended."""
        return self._rest_size > 0

    def _checked(self, line: bytes) -> bytes:
        if len(line) > self.max_line:
            raise self._too_long()
        return line

    def _too_long(self) -> LineTooLong:
        return LineTooLong(f"a line may hold {self.max_line:,} bytes; this one is longer")
