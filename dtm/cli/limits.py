"""The options that bound what a server takes: one table, a section of its own in the help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from msgspec import structs

from dtm.cli.options import DURATION, SIZE, setting
from dtm.core.durations import format_duration
from dtm.core.sizes import format_size
from dtm.protocol.framing import AROUND_VALUE, MAX_LINE
from dtm.protocol.messages import MAX_TASKS
from dtm.server.limits import Limits

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any] | click.Command)

_SECTION = "Limits"
_DEFAULT = Limits()
# Below this no answer fits into a line, and hardly a task.
_LEAST_LINE = 2 * AROUND_VALUE

# Flag, the least and the most of its value, help. All of them are whole numbers.
_COUNTS = (
    ("--max-connections", 1, 1_000_000, "Connections at a time; a few more are kept for dtm-admin."),
    ("--max-unauthenticated", 1, 1_000_000, "Connections that have not yet said who they are."),
    ("--max-tasks-per-submit", 1, MAX_TASKS, "Tasks in one submission."),
    ("--max-queued-messages", 1, 1_000_000_000, "Messages that may wait for a client to read them."),
    ("--max-waiting", 1, 1_000_000, "Requests that may wait for the disk."),
)
_SIZES = (
    ("--max-line", _LEAST_LINE, MAX_LINE, "Length of a line from a client."),
    ("--max-payload", 1, MAX_LINE - AROUND_VALUE, "Length of a task's payload, as JSON text."),
    ("--max-queued", AROUND_VALUE, 2**40, "Bytes that may wait for a client to read them."),
    ("--min-free-disk", 0, 2**50, "Free room beside the database below which no tasks are taken in."),
)
_DURATIONS = (
    ("--busy-timeout", "How long another program may lock the database before requests are refused."),
    ("--first-message-deadline", "How long a new connection may take to say who it is."),
    ("--line-deadline", "How long a line may take from its first byte to its last."),
    ("--send-deadline", "How long a client may take to read a piece of what it is sent."),
)


def limit_options(command: _Decorated) -> _Decorated:
    """Add the options of all limits to a command."""
    for option in reversed([*map(_count, _COUNTS), *map(_size, _SIZES), *map(_duration, _DURATIONS)]):
        command = option(command)
    return command


def take_limits(values: dict[str, Any]) -> Limits:
    """Take the limits out of a command's values.

    Raises:
        UsageError: two of them do not go together.
    """
    limits = Limits(**{field.name: values.pop(field.name) for field in structs.fields(Limits)})
    most = limits.max_line - AROUND_VALUE
    if limits.max_payload > most:
        raise click.UsageError(
            f"wanted a --max-payload that leaves {format_size(AROUND_VALUE)} of the --max-line "
            f"{format_size(limits.max_line)}, found {format_size(limits.max_payload)}; make it {format_size(most)} or "
            "less"
        )
    return limits


def _count(row: tuple[str, int, int, str]) -> Callable[[Any], Any]:
    flag, least, most, text = row
    field = _field(flag)
    return setting(
        flag, field, type=click.IntRange(least, most), default=getattr(_DEFAULT, field), help=text, section=_SECTION
    )


def _size(row: tuple[str, int, int, str]) -> Callable[[Any], Any]:
    flag, least, most, text = row
    field = _field(flag)

    def check(_: click.Context, __: click.Parameter, value: int) -> int:
        if not least <= value <= most:
            raise click.BadParameter(
                f"wanted a size from {format_size(least)} to {format_size(most)}, found {format_size(value)}"
            )
        return value

    default = format_size(getattr(_DEFAULT, field))
    return setting(flag, field, type=SIZE, default=default, help=text, callback=check, section=_SECTION)


def _duration(row: tuple[str, str]) -> Callable[[Any], Any]:
    flag, text = row
    field = f"{_field(flag)}_s"
    default = format_duration(getattr(_DEFAULT, field))
    return setting(flag, field, type=DURATION, default=default, help=text, callback=_above_zero, section=_SECTION)


def _above_zero(_: click.Context, __: click.Parameter, value: float) -> float:
    if value == 0:
        raise click.BadParameter("wanted a duration above 0")
    return value


def _field(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")
