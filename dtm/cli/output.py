"""How tasks' ends are printed: results on standard output, one line a task, and reasons on standard error."""

from __future__ import annotations

import sys
from typing import Literal

import click
import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from dtm.client.watches import MISSING
from dtm.core.escapes import breaks, escaped, json_escaped, steers
from dtm.core.lifecycle import ENDED, State
from dtm.protocol.messages import Failure, TaskFinished

OutputFormat = Literal["text", "json"]
EXIT_NOT_FOUND = 4
_END = {
    "dead": "died: {reason}",
    "cancelled": "was cancelled",
    "expired": "expired while it waited",
}


class _Line(Struct, frozen=True):
    """What `-o json` says of a task."""

    id: int
    state: str
    result: Raw | None
    error: Failure | None


class TroubleOnce:
    """Tells that the connection broke, once a break, not once a try."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, reason: str) -> None:
        if reason != self._told:
            _complain(f"{reason}; trying again")
        self._told = reason


class Printer:
    """Prints how tasks have ended, and remembers whether all went well."""

    def __init__(self, output: OutputFormat) -> None:
        self._output = output
        # A terminal shows a person what there is; a program gets the text, if one line can hold it.
        self._is_odd = steers if sys.stdout.isatty() else breaks
        self.died = 0
        self.missing = 0
        self.unfinished = 0
        self.unread = 0

    def accepted(self, task_id: int) -> None:
        """Print the number of a task that is on the server's disk."""
        _print(str(task_id) if self._output == "text" else f'{{"id":{task_id}}}')

    def finished(self, end: TaskFinished) -> None:
        """Print how a task has ended, or stands."""
        if self._output == "json":
            _print(json_escaped(msgspec.json.encode(_line(end)).decode()))
        else:
            # A task without a result keeps its line, so that lines and tasks still pair.
            _print(self._bare(end.value) if end.state == State.COMPLETED else "")
        self._judge(end)

    def unreadable(self, reason: str) -> None:
        """Say at once why there are no more tasks; those before may take long."""
        self.unread += 1
        _complain(f"Error: {reason}")

    def flush(self) -> None:
        """Hand on what is printed so far; whoever reads a pipe may be waiting for it."""
        sys.stdout.flush()

    @property
    def exit_code(self) -> int:
        """0 if every task is completed, 4 if one does not exist, else 1."""
        return EXIT_NOT_FOUND if self.missing else int(bool(self.died or self.unfinished or self.unread))

    def _bare(self, value: Raw | UnsetType) -> str:
        text = "null" if value is UNSET else bytes(value).decode()
        if text.startswith('"'):
            content = msgspec.json.decode(text, type=str)
            if not self._is_odd(content):
                return content
        return json_escaped(text)

    def _judge(self, end: TaskFinished) -> None:
        if end.state == State.COMPLETED:
            return
        if end.state in (MISSING, State.CLEARED):
            self.missing += 1
            _complain(f"task {end.task_id}: there is no such task")
        elif end.state in ENDED:
            self.died += 1
            _complain(f"task {end.task_id} {_END[end.state].format(reason=_reason(end.error))}")
        else:
            self.unfinished += 1
            _complain(f"task {end.task_id} has not ended: it is {end.state}")


def _line(end: TaskFinished) -> _Line:
    value = None if end.value is UNSET else end.value
    return _Line(end.task_id, end.state, value, None if end.error is UNSET else end.error)


def _reason(error: Failure | UnsetType) -> str:
    if error is UNSET:
        return "no reason is known"
    return f"{error.type}: {error.message}" if error.message else error.type


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _complain(line: str) -> None:
    click.echo(escaped(line), err=True)
