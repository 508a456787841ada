"""Many plain sockets at once, and what a process takes of the machine."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.waiting import LONG_S
from tests.wire import Line

MEBIBYTE = 1024 * 1024
PING: Line = {"type": "PingRequest"}


def line(message: Line) -> bytes:
    """Write a message as the wire has it."""
    return json.dumps(message).encode() + b"\n"


class Visitor:
    """One connection, spoken over without an event loop."""

    def __init__(self, address: str, *, receive_buffer: int | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(LONG_S)
        self.socket.connect((host, int(port)))
        self._unread = b""

    def say(self, *messages: Line) -> None:
        """Send messages; it may have been cut."""
        self.say_bytes(b"".join(map(line, messages)))

    def say_bytes(self, data: bytes) -> bool:
        """Send bytes, and say whether somebody was there to take them."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def hear(self) -> Line | None:
        """Give the next message, None if the connection has ended."""
        while b"\n" not in self._unread:
            try:
                data = self.socket.recv(65_536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._unread += data
        text, _, self._unread = self._unread.partition(b"\n")
        message: Line = json.loads(text)
        return message

    def ask(self, message: Line) -> Line | None:
        """Send a message and give what comes next."""
        self.say(message)
        return self.hear()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


@contextmanager
def crowd(address: str, count: int, *, receive_buffer: int | None = None) -> Iterator[list[Visitor]]:
    """Connect so many visitors, as long as the context lasts."""
    with ExitStack() as stack:
        visitors = []
        for _ in range(count):
            visitors.append(Visitor(address, receive_buffer=receive_buffer))
            stack.callback(visitors[-1].close)
        yield visitors


def resident(pid: int) -> int:
    """Say how many bytes of memory a process has."""
    (found,) = [text for text in Path(f"/proc/{pid}/status").read_text().splitlines() if text.startswith("VmRSS")]
    return int(found.split()[1]) * 1024


def processor_time(pid: int) -> float:
    """Say how many seconds a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    """Say how many files a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
