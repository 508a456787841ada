"""What an operator says, understood: a command for the store or a question about it."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.server.inquiries import INQUIRIES, Inquiry
from dtm.server.translate import Unacceptable
from dtm.storage.batch import Clear, Reprocess, Selection

MAX_COMMAND = 10_000
"""Dead letters that one command settles at most; a larger selection takes several commands."""


class _Arguments(Struct, frozen=True, forbid_unknown_fields=True):
    selection: Selection
    limit: int


_COMMANDS: dict[str, type[Reprocess | Clear]] = {"deadletter.reprocess": Reprocess, "deadletter.clear": Clear}


def command(message: messages.Admin) -> Reprocess | Clear | Inquiry:
    """Give what an `Admin` message asks for.

    Raises:
        Unacceptable: there is no such command, or not with such arguments.
    """
    name = message.command
    if name not in _COMMANDS and name not in INQUIRIES:
        there_are = ", ".join(sorted([*_COMMANDS, *INQUIRIES]))
        raise Unacceptable(ErrorCode.UNKNOWN_COMMAND, f"no command {name!r}; there are {there_are}")
    try:
        if name in INQUIRIES:
            return msgspec.json.decode(message.args, type=INQUIRIES[name])
        arguments = msgspec.json.decode(message.args, type=_Arguments)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Unacceptable(ErrorCode.BAD_ARGUMENTS, f"{name}: {error}") from error
    if not 1 <= arguments.limit <= MAX_COMMAND:
        raise Unacceptable(ErrorCode.BAD_ARGUMENTS, f"wanted a limit from 1 to {MAX_COMMAND}, found {arguments.limit}")
    return _COMMANDS[name](arguments.selection, arguments.limit)
