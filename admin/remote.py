"""The conversation with a server: one command, one answer.

Knows no tables and no files; what a command does is the server's affair.
"""

from __future__ import annotations

import random
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw

from dtm.cli.options import Address
from dtm.core.backoff import Backoff
from dtm.protocol import codec, messages
from dtm.protocol.codec import BadLine, ErrorCode
from dtm.protocol.framing import MAX_ANSWER, LineBuffer, LineTooLong
from dtm.storage.batch import Cancel, Clear, Command, Reprocess
from dtm.storage.receipt import Resolved

from .approach import Approach, opened
from .errors import CommandRefused, PutOff, ServerUnreachable

T = TypeVar("T")

# A slice takes the server milliseconds; the rest is for a disk that is very busy.
ANSWER_TIMEOUT_S = 10.0

_BACKOFF = Backoff(0.1, 2.0)
# Refusals after which the connection goes on and the same command may be taken.
_PASSING = (ErrorCode.STORE_BUSY, ErrorCode.OVERLOADED)

_READ_SIZE = 64 * 1024
_COMMANDS: dict[type[Command], str] = {
    Reprocess: "deadletter.reprocess",
    Clear: "deadletter.clear",
    Cancel: "tasks.cancel",
}


@contextmanager
def conversation(approach: Approach, *, timeout_s: float) -> Iterator[Conversation]:
    """Connect to a server as an operator; connecting and each answer may take `timeout_s`.

    Raises:
        ServerUnreachable: nobody answers at its address.
        NotAdmitted: somebody does, and one of the two refuses the other.
    """
    with opened(approach, timeout_s=timeout_s) as connection:
        yield Conversation(connection, approach.address, timeout_s)


class Conversation:
    """A connection to a server, for commands one after the other."""

    def __init__(self, connection: socket.socket, address: Address, timeout_s: float) -> None:
        self._connection = connection
        self._address = address
        self._timeout_s = timeout_s
        self._buffer = LineBuffer(MAX_ANSWER)
        self._lines: deque[bytes] = deque()
        self._ref = 0

    def carry_out(self, command: Command) -> Resolved:
        """Let the server carry out `command`.

        What it puts off is asked again, for as long as an answer may take.

        Raises:
            CommandRefused: it did not.
            ServerUnreachable: no answer came, or none that a dtm server gives. Whether the command was carried out
                is unknown.
        """
        give_up_s = time.monotonic() + self._timeout_s
        attempt = 1
        while True:
            pause_s = _BACKOFF.delay_s(attempt, random.random())
            try:
                return self.ask(_COMMANDS[type(command)], Resolved, selection=command.selection, limit=command.limit)
            except PutOff:
                if time.monotonic() + pause_s > give_up_s:
                    raise
            time.sleep(pause_s)
            attempt += 1

    def ask(self, command: str, answer: type[T], **args: object) -> T:
        """Send any command, and read its result as an `answer`.

        Raises:
            CommandRefused: the server said no.
            ServerUnreachable: no answer came, or none that a dtm server gives.
        """
        self._ref += 1
        try:
            result = self._answer_to(messages.Admin(self._ref, command, Raw(msgspec.json.encode(args))))
            return msgspec.json.decode(result, type=answer)
        except TimeoutError as error:
            raise self._unreachable(f"none within {self._timeout_s:g} s") from error
        except OSError as error:
            raise self._unreachable(f"a broken connection ({error})") from error
        except (BadLine, LineTooLong, msgspec.DecodeError) as error:
            raise self._unreachable(f"one that no dtm server gives ({error})") from error

    def _answer_to(self, message: messages.Admin) -> Raw:
        deadline = time.monotonic() + self._timeout_s
        self._connection.settimeout(self._timeout_s)
        self._connection.sendall(codec.encode(message))
        while True:
            # Something else may come first, such as ShuttingDown.
            match codec.decode_from_server(self._next_line(deadline)):
                case messages.AdminResponse(ref=self._ref, result=result):
                    return result
                case messages.Error(code=code, message=reason, ref=ref) if ref is UNSET or ref == self._ref:
                    error = PutOff if code in _PASSING else CommandRefused
                    raise error(f"the server at {self._address}: {reason} ({code})")

    def _next_line(self, deadline: float) -> bytes:
        while not self._lines:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._connection.settimeout(left_s)
            data = self._connection.recv(_READ_SIZE)
            if not data:
                raise ConnectionError("the server closed it")
            self._lines.extend(self._buffer.feed(data))
        return self._lines.popleft()

    def _unreachable(self, found: str) -> ServerUnreachable:
        return ServerUnreachable(
            f"wanted an answer of the server at {self._address}, found {found}; "
            "whether it carried out the command is unknown: look, and give it again if need be"
        )
