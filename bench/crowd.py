"""Many clients in one process, too many for a process each: they register, ping, and run what they are sent at once.

python -m bench.crowd ADDRESS KIND CLIENTS CAPACITY
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import click

from bench.process import Failed, Process, running
from bench.texts import answer
from dtm.cli.loop import collect_rarely, run
from dtm.cli.options import ADDRESS, Address
from dtm.protocol.codec import decode_from_server, encode
from dtm.protocol.framing import LineBuffer
from dtm.protocol.messages import (
    Capacity,
    ClientMessage,
    Error,
    PingRequest,
    Register,
    RegisterResponse,
    ServerMessage,
    Task,
)
from dtm.server.descriptors import raise_limit

# The server lets in no more strangers than this at a time.
_AT_ONCE = 100
_PING_INTERVAL_S = 10.0


@contextmanager
def running_crowd(address: str, folder: Path, kind: str, *, count: int, capacity: int) -> Iterator[Process]:
    """Keep `count` clients connected as long as the context lasts; it begins when all have registered."""
    command = ("bench.crowd", address, kind, str(count), str(capacity))
    with running(command, folder / f"crowd-{kind}-{count}.log") as crowd:
        crowd.logged("registered")
        yield crowd


@click.command()
@click.argument("address", type=ADDRESS)
@click.argument("kind")
@click.argument("clients", type=int)
@click.argument("capacity", type=int)
def main(*, address: Address, kind: str, clients: int, capacity: int) -> None:
    """Be so many clients until the process is ended."""
    raise_limit(clients)
    collect_rarely()
    run(lambda: _be_there(address, kind, clients, capacity))


async def _be_there(address: Address, kind: str, clients: int, capacity: int) -> None:
    loop = asyncio.get_running_loop()
    lost: asyncio.Future[None] = loop.create_future()
    members: list[_Member] = []
    for first in range(0, clients, _AT_ONCE):
        part = [_Member(f"{kind}-{n}", kind, lost) for n in range(first, min(first + _AT_ONCE, clients))]
        await asyncio.gather(*(_connect(member, address) for member in part))
        await asyncio.gather(*(member.registered for member in part))
        members += part
    click.echo('{"event": "registered"}')
    # Only now, so that none has done much before the last has come.
    _tell(members, Capacity(capacity))
    while True:
        await asyncio.wait([lost], timeout=_PING_INTERVAL_S)
        if lost.done():
            lost.result()
        _tell(members, PingRequest())


async def _connect(member: _Member, address: Address) -> None:
    await asyncio.get_running_loop().create_connection(lambda: member, address.host, address.port)


def _tell(members: list[_Member], message: ClientMessage) -> None:
    for member in members:
        member.say([message])


class _Member(asyncio.Protocol):
    """One client: each task's result is on its way before the next task is looked at."""

    def __init__(self, name: str, kind: str, lost: asyncio.Future[None]) -> None:
        self._hello = Register(name, [kind], capacity=0)
        self._lost = lost
        self._lines = LineBuffer()
        self._transport: asyncio.Transport | None = None
        self.registered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def say(self, messages: Sequence[ClientMessage]) -> None:
        """Send messages."""
        assert self._transport is not None
        self._transport.write(b"".join(map(encode, messages)))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register."""
        # uvloop's are transports by their methods only.
        self._transport = cast("asyncio.Transport", transport)
        self.say([self._hello])

    def data_received(self, data: bytes) -> None:
        """Run the tasks that have come."""
        messages = [decode_from_server(line) for line in self._lines.feed(data)]
        results = [answer(message) for message in messages if isinstance(message, Task)]
        if results:
            self.say(results)
        for message in messages:
            self._hear(message)

    def connection_lost(self, error: Exception | None) -> None:
        """End the whole process: the benchmark would measure something else."""
        self._fail(Failed(f"the server hung up ({error})"))

    def _hear(self, message: ServerMessage) -> None:
        match message:
            case RegisterResponse():
                self.registered.set_result(None)
            case Error():
                self._fail(Failed(f"the server refused: {message.message} ({message.code})"))

    def _fail(self, failure: Failed) -> None:
        for future in (self._lost, self.registered):
            if not future.done():
                future.set_exception(failure)


if __name__ == "__main__":
    main()
