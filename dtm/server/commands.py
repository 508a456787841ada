"""What an operator says, understood: a command for the store or a question about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.server.inquiries import INQUIRIES, Inquiry
from dtm.server.translate import Unacceptable
from dtm.storage.batch import Cancel, Clear, Command, Reprocess, Selection, TaskSelection

MAX_COMMAND = 10_000
"""What one command settles at most; a larger selection takes several commands."""


class _Letters(Struct, frozen=True, forbid_unknown_fields=True):
    selection: Selection
    limit: int


class _Tasks(Struct, frozen=True, forbid_unknown_fields=True):
    selection: TaskSelection
    limit: int


class Compact(Struct, frozen=True, forbid_unknown_fields=True):
    """Give the file's free pages back to the disk."""


_Arguments = _Letters | _Tasks
_COMMANDS: dict[str, tuple[type[_Arguments], Callable[[Any, int], Command]]] = {
    "deadletter.reprocess": (_Letters, Reprocess),
    "deadletter.clear": (_Letters, Clear),
    "tasks.cancel": (_Tasks, Cancel),
}


def command(message: messages.Admin) -> Command | Compact | Inquiry:
    """Give what an `Admin` message asks for.

    Raises:
        Unacceptable: there is no such command, or not with such arguments.
    """
    name = message.command
    asked_alone: dict[str, type[Compact | Inquiry]] = {"compact": Compact, **INQUIRIES}
    if name not in _COMMANDS and name not in asked_alone:
        there_are = ", ".join(sorted([*_COMMANDS, *asked_alone]))
        raise Unacceptable(ErrorCode.UNKNOWN_COMMAND, f"no command {name!r}; there are {there_are}")
    try:
        if name in asked_alone:
            return msgspec.json.decode(message.args, type=asked_alone[name])
        kind, make = _COMMANDS[name]
        arguments = msgspec.json.decode(message.args, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unacceptable(ErrorCode.BAD_ARGUMENTS, f"{name}: {error}") from error
    if not 1 <= arguments.limit <= MAX_COMMAND:
        raise Unacceptable(ErrorCode.BAD_ARGUMENTS, f"wanted a limit from 1 to {MAX_COMMAND}, found {arguments.limit}")
    return make(arguments.selection, arguments.limit)
