"""A server behind TLS: who gets through, who does not and hears why, and that nobody is held up meanwhile."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import fail_after
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from dtm.server.limits import Limits
from tests.certificates import Authority, Pair
from tests.introduction import introduce
from tests.security.files import PRODUCER, WORKER, token_file
from tests.server.live import Live, Peer, serving, submission, success
from tests.waiting import LONG_S, eventually


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The authority that everybody here trusts."""
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    """The server's certificate."""
    return authority.issue()


@pytest.fixture
async def safe(tmp_path: Path, pair: Pair) -> AsyncIterator[Live]:
    """A server that speaks TLS and asks for nothing else."""
    async with serving(tmp_path, **pair.options) as live:
        yield live


@asynccontextmanager
async def demanding(folder: Path, pair: Pair, authority: Authority, **changes: Any) -> AsyncIterator[Live]:
    """Run a server that demands a certificate of every client."""
    async with serving(folder, **pair.options, tls_client_ca=authority.file, **changes) as live:
        yield live


@asynccontextmanager
async def plain(live: Live) -> AsyncIterator[ByteStream]:
    """Connect, and speak no TLS."""
    async with await anyio.connect_tcp(live.settings.host, live.port) as stream:
        yield stream


async def refusals(live: Live, count: int = 1) -> list[str]:
    """Wait until so many connections are refused, and give the reasons in the log."""
    found = await eventually(lambda: live.logged("client.refused")[count - 1 :] and live.logged("client.refused"))
    return [event["reason"] for event in found]


async def test_everything_travels_through_tls(safe: Live, authority: Authority) -> None:
    """Tasks and results of nearly a megabyte, many at a time, in both directions."""
    async with safe.dial(authority.trusting()) as peer:
        await peer.register("A", capacity=20)
        payload = "x" * 900_000
        ids = []
        for _ in range(20):
            ids += await _submitted(peer, payload)
        assert len(ids) == 20
        for task in [message for message in await peer.settled() if message["type"] == "Task"]:
            assert task["payload"] == payload
            await peer.say(success(task, task["payload"]))
        await peer.settled()
    states = [safe.state(id)[0] for id in ids]

    assert states.count("completed") > 0
    assert not safe.logged("connection.failed")
    assert not safe.logged("connection.cut")


async def _submitted(peer: Peer, payload: str) -> list[int]:
    await peer.say(submission({"kind": "A", "payload": payload}, ref=5))
    while (message := await peer.hear())["type"] != "SubmitResponse":
        assert message["type"] == "Task"
    ids: list[int] = message["ids"]
    return ids


async def test_the_address_of_a_client_is_known(safe: Live, authority: Authority) -> None:
    """As without TLS."""
    async with safe.dial(authority.trusting()) as peer:
        await peer.register("A")

    assert safe.logged("client.connect")[0]["address"].startswith("127.0.0.1:")


async def test_the_handshake_is_bound_to_the_certificate(tmp_path: Path, pair: Pair, authority: Authority) -> None:
    """A proof made on another channel is worth nothing, whoever passes it on."""
    tokens = token_file(tmp_path, f"worker {WORKER}")
    async with serving(tmp_path, **pair.options, token_file=tokens) as live:
        async with live.dial(authority.trusting()) as peer:
            answer = await introduce(peer, WORKER, certificate=pair.der)
        async with live.dial(authority.trusting()) as peer:
            elsewhere = await introduce(peer, WORKER, certificate=authority.issue(called="between").der)
        async with live.dial(authority.trusting()) as peer:
            unbound = await introduce(peer, WORKER)

    assert answer["type"] == "Authenticated"
    assert (elsewhere.get("code"), unbound.get("code")) == ("unauthenticated", "unauthenticated")


async def test_one_who_speaks_no_tls_is_told_in_the_clear(safe: Live) -> None:
    """A line that he understands, and the end."""
    async with plain(safe) as stream:
        peer = Peer(stream)
        await peer.say(submission({"kind": "A"}))
        (answer,) = await peer.hear_all()

    assert answer["code"] == "tls-required"
    assert "--tls-ca" in answer["message"]
    assert await refusals(safe) == ["the other side speaks no TLS"]


async def test_one_who_speaks_http_is_refused_too(safe: Live) -> None:
    """A browser, or a health check."""
    async with plain(safe) as stream:
        await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

        assert await refusals(safe) == ["the other side speaks HTTP, not TLS"]


async def test_a_server_without_tls_says_so_at_once(live: Live, authority: Authority) -> None:
    """The greeting of a TLS client need not hold a line's end; nobody waits for one."""
    with fail_after(LONG_S):
        async with await anyio.connect_tcp(live.settings.host, live.port) as stream:
            with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
                await TLSStream.wrap(stream, hostname="localhost", ssl_context=authority.trusting())


async def test_silence_instead_of_a_handshake_holds_nobody_up(tmp_path: Path, pair: Pair, authority: Authority) -> None:
    """The others connect and are served at once; the silent ones go when their time is over."""
    limits = Limits(first_message_deadline_s=1.5)
    async with serving(tmp_path, **pair.options, limits=limits) as live, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(plain(live)) for _ in range(50)]
        for stream in silent[:25]:
            await stream.send(b"\x16\x03\x01")  # as if it were about to begin
        async with live.dial(authority.trusting()) as peer:
            await peer.submit({"kind": "A"})
        assert not live.logged("client.refused")

        assert set(await refusals(live, 50)) == {"no TLS handshake within 1.5 s"}


async def test_strangers_before_tls_are_bounded_too(tmp_path: Path, pair: Pair, authority: Authority) -> None:
    """The oldest of them goes when there are too many."""
    async with (
        serving(tmp_path, **pair.options, limits=Limits(max_unauthenticated=5)) as live,
        AsyncExitStack() as stack,
    ):
        silent = [await stack.enter_async_context(plain(live)) for _ in range(6)]
        with fail_after(LONG_S), pytest.raises(anyio.EndOfStream):
            await silent[0].receive()
        async with live.dial(authority.trusting()) as peer:
            await peer.submit({"kind": "A"})


async def test_rubbish_after_the_handshake_ends_only_that_connection(safe: Live, authority: Authority) -> None:
    """Nothing of it reaches anybody's traceback."""
    async with plain(safe) as stream:
        secured = await TLSStream.wrap(
            stream, hostname="localhost", ssl_context=authority.trusting(), standard_compatible=False
        )
        peer = Peer(secured)
        await peer.register("A")
        await stream.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        await eventually(lambda: safe.logged("client.disconnect"))
    async with safe.dial(authority.trusting()) as peer:
        await peer.submit({"kind": "A"})

    assert not safe.logged("connection.failed")


async def test_hanging_up_is_noticed(safe: Live, authority: Authority) -> None:
    """With a closing handshake and without one."""
    for is_polite in (True, False):
        async with plain(safe) as stream:
            secured = await TLSStream.wrap(
                stream, hostname="localhost", ssl_context=authority.trusting(), standard_compatible=False
            )
            await Peer(secured).register("A", name=f"polite {is_polite}")
            if is_polite:
                await stream.send(_close_notify(secured))
        count = 1 + (not is_polite)
        await eventually(lambda count=count: len(safe.logged("client.disconnect")) == count)  # type: ignore[misc]

    assert not safe.logged("connection.failed")


def _close_notify(secured: TLSStream) -> bytes:
    with pytest.raises(ssl.SSLError):
        secured._ssl_object.unwrap()
    return secured._write_bio.read()


async def test_the_end_of_the_server_is_told_through_tls(tmp_path: Path, pair: Pair, authority: Authority) -> None:
    """It does not wait for anybody's closing handshake."""
    async with serving(tmp_path, **pair.options) as live, live.dial(authority.trusting()) as peer:
        await peer.register("A")
        live.stop.drain.set()
        await peer.expect("ShuttingDown")
        assert await peer.hear_all() == []
        with fail_after(LONG_S):
            await live.ended.wait()


# Certificates of clients.


async def test_a_client_with_a_right_certificate_gets_in(tmp_path: Path, pair: Pair, authority: Authority) -> None:
    """Tokens are asked for besides, if there are any."""
    mine = authority.issue("worker-1", called="client")
    async with demanding(tmp_path, pair, authority) as live, live.dial(authority.trusting(mine)) as peer:
        await peer.submit({"kind": "A"})
    tokens = token_file(tmp_path, f"producer {PRODUCER}")
    async with (
        demanding(tmp_path, pair, authority, token_file=tokens) as live,
        live.dial(authority.trusting(mine)) as peer,
    ):
        assert (await introduce(peer, PRODUCER, certificate=pair.der))["roles"] == ["producer"]
        await peer.submit({"kind": "A"})


@pytest.mark.parametrize("has_tokens", [True, False])
async def test_one_without_a_certificate_is_told_what_is_wanted(
    tmp_path: Path, pair: Pair, authority: Authority, *, has_tokens: bool
) -> None:
    """Whether his token is right he does not learn."""
    tokens = {"token_file": token_file(tmp_path, f"producer {PRODUCER}")} if has_tokens else {}
    async with demanding(tmp_path, pair, authority, **tokens) as live:
        answers = []
        for token in (PRODUCER, "x" * 32):
            async with live.dial(authority.trusting()) as peer:
                answers.append(await introduce(peer, token, certificate=pair.der))
        async with live.dial(authority.trusting()) as peer:
            await peer.say(submission({"kind": "A"}))
            answers += await peer.hear_all()

    assert [answer["code"] for answer in answers] == ["unauthenticated"] * 3
    assert all("--tls-cert FILE and --tls-key FILE" in answer["message"] for answer in answers)


async def test_a_certificate_of_another_authority_ends_the_handshake(
    tmp_path: Path, pair: Pair, authority: Authority
) -> None:
    """And one that has expired; the log says why."""
    other = Authority(tmp_path, "other").issue("worker-1", called="client")
    old = authority.issue("worker-1", called="old", expired=True)
    async with demanding(tmp_path, pair, authority) as live:
        for mine in (other, old):
            with pytest.raises((ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError)):
                async with live.dial(authority.trusting(mine)) as peer:
                    await peer.submit({"kind": "A"})
        reasons = await refusals(live, 2)

    assert "unable to get local issuer certificate" in reasons[0]
    assert "certificate has expired" in reasons[1]


async def test_the_operator_of_the_machine_needs_no_certificate(
    tmp_path: Path, pair: Pair, authority: Authority
) -> None:
    """What lies beside the store shows who he is, and how to know the server."""
    async with demanding(tmp_path, pair, authority) as live, live.dial(authority.trusting()) as peer:
        answer = await introduce(peer, live.secret, certificate=pair.der)
        stats = await peer.ask({"type": "Admin", "ref": 1, "command": "stats", "args": {}})

    assert (answer["type"], answer["roles"]) == ("Authenticated", ["admin"])
    assert stats["type"] == "AdminResponse"
