"""A TCP stream: what is written and read at once, what waits, and how a connection ends."""

from __future__ import annotations

import errno
import gc
import socket
import struct
import weakref
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import anyio
import pytest
from anyio import (
    BrokenResourceError,
    BusyResourceError,
    CancelScope,
    ClosedResourceError,
    EndOfStream,
    create_task_group,
    fail_after,
    move_on_after,
    wait_all_tasks_blocked,
)
from anyio.abc import SocketAttribute
from anyio.lowlevel import checkpoint

from dtm.net.stream import TcpStream, connect_tcp, receive_rest
from tests.net.connected import HOST, pair
from tests.waiting import LONG_S, eventually

# More than the system keeps for a peer that does not read.
MUCH = bytes(range(256)) * 128 * 1024


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run in both loops: uvloop does not exist on every system."""
    if request.param == "uvloop" and find_spec("uvloop") is None:
        pytest.skip("no uvloop here")
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def reset(stream: TcpStream) -> None:
    """Let the peer hear that this end is gone."""
    raw = stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def arrived(peer: socket.socket) -> bytes:
    """Read what is there."""
    data = bytearray()
    try:
        while piece := peer.recv(1_000_000):
            data += piece
    except BlockingIOError:
        pass
    return bytes(data)


async def read(stream: TcpStream, size: int) -> bytes:
    """Read so many bytes."""
    data = bytearray()
    with fail_after(LONG_S):
        while len(data) < size:
            data += await stream.receive()
    return bytes(data)


async def test_what_is_sent_arrives_in_pieces_of_at_most_the_size_asked_for() -> None:
    """What is left of a piece comes first with the next."""
    async with pair() as (one, other):
        await one.send(b"abcdef")

        assert await other.receive(4) == b"abcd"
        assert await other.receive(4) == b"ef"


async def test_without_waiting_goes_what_the_system_takes() -> None:
    """The rest can be sent by waiting, and follows in its order."""
    async with pair() as (one, other):
        taken = one.send_nowait(MUCH)
        assert 0 < taken < len(MUCH)
        assert one.send_nowait(b"more") == 0

        async with create_task_group() as group:
            group.start_soon(one.send, MUCH[taken:])
            await wait_all_tasks_blocked()
            assert one.send_nowait(b"more") == 0
            assert await read(other, len(MUCH)) == MUCH
        assert one.send_nowait(b"more") == 4
        assert await read(other, 4) == b"more"


async def test_nothing_overtakes_what_waits() -> None:
    """Though the system would take it: the peer has just read, and the loop has not had its turn."""
    with socket.create_server((HOST, 0)) as listening:
        async with await connect_tcp(*listening.getsockname()) as stream:
            peer, _ = listening.accept()
            peer.setblocking(False)
            with peer, fail_after(LONG_S):
                async with create_task_group() as group:
                    group.start_soon(stream.send, MUCH)
                    await wait_all_tasks_blocked()
                    heard = arrived(peer)
                    assert stream.send_nowait(b"more") == 0
                    while len(heard) < len(MUCH):
                        await checkpoint()
                        heard += arrived(peer)

    assert heard == MUCH


async def test_whoever_is_not_read_has_to_wait() -> None:
    """And nothing is lost of what came meanwhile."""
    async with pair() as (one, other):
        with move_on_after(0.2) as scope:
            await one.send(MUCH)
        assert scope.cancelled_caught

        # What the sender has handed over when it gives up is on its way all the same.
        assert await read(other, len(MUCH)) == MUCH


async def test_a_peer_that_says_no_more_can_still_be_told_something() -> None:
    """It has closed one direction only."""
    async with pair() as (one, other):
        await one.send(b"last")
        await one.send_eof()

        assert await other.receive() == b"last"
        for _ in range(2):
            with pytest.raises(EndOfStream):
                await other.receive()
        await other.send(b"heard")
        assert await one.receive() == b"heard"


async def test_a_connection_that_breaks_says_so_to_reader_and_writer() -> None:
    """Also to those who wait at that moment; without waiting nothing is taken."""
    async with pair() as (one, other):
        failed: list[type[Exception]] = []

        async def note() -> None:
            try:
                await other.send(MUCH)
            except BrokenResourceError as error:
                failed.append(type(error))

        async with create_task_group() as group:
            group.start_soon(note)
            await wait_all_tasks_blocked()
            reset(one)
            await one.aclose()
            with fail_after(LONG_S), pytest.raises(BrokenResourceError):
                await other.receive()

        assert failed == [BrokenResourceError]
        assert other.send_nowait(b"x") == 0
        with pytest.raises(BrokenResourceError):
            await other.send(b"x")


async def test_what_is_closed_here_is_closed() -> None:
    """For whoever waits to read too; the peer hears the end."""
    async with pair() as (one, other):
        failed: list[type[Exception]] = []

        async def note() -> None:
            try:
                await one.receive()
            except ClosedResourceError as error:
                failed.append(type(error))

        async with create_task_group() as group:
            group.start_soon(note)
            await wait_all_tasks_blocked()
            await one.aclose()
            await eventually(lambda: failed)

        with pytest.raises(ClosedResourceError):
            await one.send(b"x")
        assert one.send_nowait(b"x") == 0
        with pytest.raises(EndOfStream):
            await other.receive()


async def test_only_one_reads_at_a_time() -> None:
    """Two would each get a part."""
    async with pair() as (one, other), create_task_group() as group:
        group.start_soon(other.receive)
        await wait_all_tasks_blocked()
        with pytest.raises(BusyResourceError):
            await other.receive()
        await one.send(b"x")


async def test_several_may_wait_to_write() -> None:
    """TLS has its own to say while something else is on its way; all of it arrives, each whole."""
    async with pair() as (one, other), create_task_group() as group:
        group.start_soon(one.send, MUCH)
        group.start_soon(one.send, b"second")
        await wait_all_tasks_blocked()

        assert await read(other, len(MUCH) + 6) == MUCH + b"second"


async def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    """The next one finds what came."""
    async with pair() as (one, other):
        with move_on_after(0.01):
            await other.receive()
        await one.send(b"x")

        assert await other.receive() == b"x"


async def test_what_is_taken_as_it_comes_wakes_nobody() -> None:
    """Whoever waits hears of what was left, and of what came before somebody waited."""
    async with pair() as (one, other):
        taken: list[bytes] = []
        waiting: list[bytes] = []

        def take(data: bytes) -> bytes:
            if data.startswith(b"t"):
                taken.append(data[:2])
                return data[2:]
            return data

        async def wait() -> None:
            waiting.append(await receive_rest(other, take, 100))

        await one.send(b"t0")
        await eventually(lambda: other._chunks)
        await wait()
        assert (taken, waiting) == ([], [b"t0"])
        async with create_task_group() as group:
            group.start_soon(wait)
            await wait_all_tasks_blocked()
            await one.send(b"t1")
            await eventually(lambda: len(taken) == 1)
            await one.send(b"t2")
            await eventually(lambda: len(taken) == 2)
            assert (taken, waiting) == ([b"t1", b"t2"], [b"t0"])
            await one.send(b"t3for you")
        await one.send(b"t4")

        assert await other.receive() == b"t4"
        assert (taken, waiting) == ([b"t1", b"t2", b"t3"], [b"t0", b"for you"])


async def test_what_fails_while_it_takes_is_raised_where_the_stream_is_read() -> None:
    """And may end the reading."""
    async with pair() as (one, other), create_task_group() as group:

        def take(data: bytes) -> bytes:
            raise ValueError(data)

        group.start_soon(one.send, b"x")
        with fail_after(LONG_S), pytest.raises(ValueError, match="x"):
            await receive_rest(other, take, 100)
        group.start_soon(one.send, b"y")
        assert await other.receive() == b"y"


async def test_what_fails_while_it_takes_leaves_nothing_to_the_collector() -> None:
    """It comes seldom in a server, and a read may be large."""

    class Read:
        """Stands for what was read."""

    held: list[weakref.ref[Read]] = []

    def take(_: bytes) -> bytes:
        read = Read()
        held.append(weakref.ref(read))
        raise EndOfStream

    async with pair() as (one, other), create_task_group() as group:
        gc.disable()
        try:
            group.start_soon(one.send, b"x")
            with suppress(EndOfStream):
                await receive_rest(other, take, 100)
            # Not in this turn: the loop's callback that has woken this task knows the error.
            await eventually(lambda: held[0]() is None)
        finally:
            gc.enable()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_taker_that_is_cancelled_has_taken_what_it_took(*, fails: bool) -> None:
    """It is not given a second time, and the stream can be read on."""
    async with pair() as (one, other), create_task_group() as group:
        with CancelScope() as scope:

            def take(_: bytes) -> bytes:
                scope.cancel()
                if fails:
                    raise ValueError
                return b""

            group.start_soon(one.send, b"x")
            await receive_rest(other, take, 100)
        assert scope.cancelled_caught
        group.start_soon(one.send, b"y")
        assert await other.receive() == b"y"


async def test_both_ends_are_named() -> None:
    """As the log shows them."""
    async with pair() as (one, other):
        assert other.extra(SocketAttribute.remote_address) == one.extra(SocketAttribute.raw_socket).getsockname()


async def test_a_host_that_does_not_answer_is_an_error_of_the_system() -> None:
    """With its number, or with its words if there is no such host."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        with pytest.raises(OSError, match=r"refused|Connect call failed") as refused:
            await connect_tcp(*taken.getsockname())
    assert refused.value.errno == errno.ECONNREFUSED
    for host in ("no.such.host.invalid", f"{'a' * 70}.invalid", "no..host.invalid"):
        with pytest.raises(socket.gaierror):
            await connect_tcp(host, 1)


async def test_the_address_that_answers_is_found() -> None:
    """A name may have several, and the first may be one where nobody listens."""
    with socket.create_server((HOST, 0)) as listening, fail_after(LONG_S):
        async with await connect_tcp("localhost", listening.getsockname()[1]) as stream:
            assert stream.extra(SocketAttribute.remote_address)[0] == HOST


async def test_whoever_is_cancelled_before_there_is_a_stream_leaves_no_socket() -> None:
    """Nobody else would close it."""
    one, other = socket.socketpair()
    with other:
        one.setblocking(False)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await TcpStream.over(one)
        assert scope.cancelled_caught
        assert one.fileno() == -1
