"""The conversation with the server that holds a store: one command, one answer.

Knows no tables and no files; what a command does is the server's affair.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from msgspec import UNSET, Raw

from dtm.cli.options import Address
from dtm.protocol import codec, messages
from dtm.protocol.codec import BadLine
from dtm.protocol.framing import LineBuffer, LineTooLong
from dtm.storage.batch import Clear, Reprocess
from dtm.storage.lock import Holder
from dtm.storage.receipt import Resolved

from .errors import CommandRefused, ServerUnreachable
from .wording import escaped

# A slice takes the server milliseconds; the rest is for a disk that is very busy.
ANSWER_TIMEOUT_S = 10.0

_READ_SIZE = 64 * 1024
_COMMANDS = {Reprocess: "deadletter.reprocess", Clear: "deadletter.clear"}
# A server that listens everywhere listens here, too.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@contextmanager
def conversation(holder: Holder, *, timeout_s: float) -> Iterator[Conversation]:
    """Connect to the server; connecting and each answer may take `timeout_s`.

    Raises:
        ServerUnreachable: nobody answers at its address.
    """
    address = address_of(holder)
    try:
        connection = socket.create_connection((address.host, address.port), timeout=timeout_s)
    except OSError as error:
        raise ServerUnreachable(
            f"wanted the server with pid {holder.pid} at {address}, found nobody there ({error}); the store is held "
            "all the same: if that server is gone, another process holds it and has to end first"
        ) from error
    with connection:
        yield Conversation(connection, holder, timeout_s)


def address_of(holder: Holder) -> Address:
    """Say where the server is reached from the same machine."""
    return Address(_LOOPBACK.get(holder.host, holder.host), holder.port)


class Conversation:
    """A connection to a server, for commands one after the other."""

    def __init__(self, connection: socket.socket, holder: Holder, timeout_s: float) -> None:
        self._connection = connection
        self._holder = holder
        self._timeout_s = timeout_s
        self._buffer = LineBuffer()
        self._lines: deque[bytes] = deque()
        self._ref = 0

    def carry_out(self, command: Reprocess | Clear) -> Resolved:
        """Let the server carry out `command`.

        Raises:
            CommandRefused: it did not.
            ServerUnreachable: no answer came, or none that a dtm server gives. Whether the command was carried out
                is unknown.
        """
        self._ref += 1
        try:
            return self._answer_to(self._message(command))
        except TimeoutError as error:
            raise self._unreachable(f"none within {self._timeout_s:g} s") from error
        except OSError as error:
            raise self._unreachable(f"a broken connection ({error})") from error
        except (BadLine, LineTooLong, msgspec.DecodeError) as error:
            raise self._unreachable(f"one that no dtm server gives ({error})") from error

    def _message(self, command: Reprocess | Clear) -> messages.Admin:
        args = msgspec.json.encode({"selection": command.selection, "limit": command.limit})
        return messages.Admin(self._ref, self._holder.secret, _COMMANDS[type(command)], Raw(args))

    def _answer_to(self, message: messages.Admin) -> Resolved:
        deadline = time.monotonic() + self._timeout_s
        self._connection.settimeout(self._timeout_s)
        self._connection.sendall(codec.encode(message))
        while True:
            # Something else may come first, such as ShuttingDown.
            match codec.decode_from_server(self._next_line(deadline)):
                case messages.AdminResponse(ref=self._ref, result=result):
                    return msgspec.json.decode(result, type=Resolved)
                case messages.Error(code=code, message=reason, ref=ref) if ref is UNSET or ref == self._ref:
                    raise CommandRefused(f"the server at {self._address}: {escaped(reason)} ({escaped(code)})")

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

    @property
    def _address(self) -> Address:
        return address_of(self._holder)

    def _unreachable(self, found: str) -> ServerUnreachable:
        return ServerUnreachable(
            f"wanted an answer of the server at {self._address}, found {found}; "
            "whether it carried out the command is unknown: look, and give it again if need be"
        )
