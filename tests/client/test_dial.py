"""How a client comes to a server that it trusts and that trusts it; every way in which one of the two does not."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from anyio import Event, create_task_group, fail_after
from anyio.abc import SocketAttribute
from structlog.testing import capture_logs

from dtm.client.dial import UNCONFIRMED_S, dial
from dtm.client.link import Link, Unreachable
from dtm.client.prefetch import FixedPrefetch
from dtm.client.producer import Producer
from dtm.client.slots import threads
from dtm.client.worker import Worker, WorkerSettings
from dtm.protocol.codec import encode
from dtm.protocol.messages import PingRequest, PingResponse
from dtm.security.credentials import NO_CREDENTIALS, Credentials
from dtm.security.errors import NotAdmitted
from dtm.security.tokens import Token
from tests.certificates import Authority
from tests.client.hearing import next_from
from tests.client.scripted import listening
from tests.introduction import proof_of
from tests.security.files import PRODUCER, WORKER, token_file
from tests.server.live import Live, serving
from tests.waiting import LONG_S, eventually
from tests.wire import Line
from tests.wire import Wire as ServerSide

HOST = "127.0.0.1"
OWNER = Credentials(Token(WORKER))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The authority of the server's certificate."""
    return Authority(tmp_path)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Live]:
    """A server that knows a worker and a producer."""
    path = token_file(tmp_path, f"worker {WORKER}", f"producer {PRODUCER}")
    async with serving(tmp_path, token_file=path) as live:
        yield live


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    """A server that asks for nothing."""
    async with serving(tmp_path) as live:
        yield live


async def reach(live: Live, credentials: Credentials, host: str = HOST) -> None:
    """Connect, and see that it works."""
    link = await Link.open(host, live.port, dial(credentials))
    await link.send(encode(PingRequest(1)))
    assert await next_from(link) == [PingResponse(1)]
    await link.close()


async def test_token_and_tls_together(tmp_path: Path, authority: Authority) -> None:
    """By address and by name, as the certificate has both."""
    path = token_file(tmp_path, f"worker {WORKER}")
    async with serving(tmp_path, token_file=path, **authority.issue().options) as live:
        for host in (HOST, "localhost"):
            await reach(live, Credentials(Token(WORKER), authority.trusting()), host)


@pytest.mark.parametrize(
    ("names", "is_expired", "complaint"),
    [
        (("localhost",), False, r"no TLS: its certificate does not hold: .*'127\.0\.0\.1'"),
        ((HOST,), True, "no TLS: its certificate does not hold: certificate has expired"),
    ],
    ids=["name", "expired"],
)
async def test_a_certificate_that_does_not_hold_is_refused(
    tmp_path: Path, authority: Authority, names: tuple[str, ...], complaint: str, *, is_expired: bool
) -> None:
    """With the reason, and before anything is said."""
    pair = authority.issue(*names, expired=is_expired)
    async with serving(tmp_path, **pair.options) as live:
        with pytest.raises(NotAdmitted, match=f"{HOST}:{live.port}: {complaint}"):
            await reach(live, Credentials(Token(WORKER), authority.trusting()))
        assert not live.logged("client.connect")


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system cannot be told")
async def test_the_system_soon_gives_up_what_nobody_confirms(live: Live) -> None:
    """Sent again at ever longer intervals, it would arrive long after the network has healed."""
    async with await dial(NO_CREDENTIALS)(HOST, live.port) as stream:
        raw = stream.extra(SocketAttribute.raw_socket)

        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1_000 * UNCONFIRMED_S


async def test_an_unknown_authority_is_refused(tmp_path: Path, authority: Authority) -> None:
    """Also the system's, if it is not among those."""
    other = Authority(tmp_path, "other").trusting()
    system = ssl.create_default_context()
    async with serving(tmp_path, **authority.issue().options) as live:
        for tls in (other, system):
            with pytest.raises(NotAdmitted, match=r"does not hold: (unable to get local issuer|self.signed)"):
                await reach(live, Credentials(tls=tls))


async def test_a_server_without_tls_is_told_apart(live: Live, authority: Authority) -> None:
    """At once, and nothing is said to it."""
    with fail_after(LONG_S), pytest.raises(NotAdmitted, match="no TLS: the other side speaks no TLS"):
        await reach(live, Credentials(tls=authority.trusting()))


async def test_a_wrong_token_is_refused(guarded: Live) -> None:
    """In the server's words."""
    with pytest.raises(NotAdmitted, match="it refused this client: this server knows no such token"):
        await reach(guarded, Credentials(Token("x" * 32)))


async def test_a_server_without_tokens_is_refused(live: Live) -> None:
    """Somebody who wants to pass for the server would ask for none."""
    with pytest.raises(NotAdmitted, match="was started without --token-file"):
        await reach(live, OWNER)


async def test_a_missing_certificate_is_asked_for(tmp_path: Path, authority: Authority) -> None:
    """By the name of its options."""
    options = {**authority.issue().options, "tls_client_ca": authority.file, "token_file": _tokens(tmp_path)}
    async with serving(tmp_path, **options) as live:
        with pytest.raises(NotAdmitted, match="wants a client certificate; name it with --tls-cert FILE"):
            await reach(live, Credentials(Token(WORKER), authority.trusting()))
        mine = authority.issue("worker", called="client")
        await reach(live, Credentials(Token(WORKER), authority.trusting(mine)))


def _tokens(folder: Path) -> Path:
    return token_file(folder, f"worker {WORKER}")


@pytest.mark.parametrize("token", ["x" * 32, ""], ids=["another", "none"])
async def test_a_server_that_does_not_know_the_token_is_refused(token: str) -> None:
    """It may have taken the real one's place; it hears a proof that is worth nothing elsewhere, and no more."""
    heard: list[Line] = []
    async with listening() as server, create_task_group() as group:

        async def pretend() -> None:
            async with server.accept() as wire:
                opening = await wire.expect("Authenticate")
                heard.append(await wire.ask({"type": "Challenge", "nonce": "ab" * 32}))
                proof = proof_of("server", token, "ab" * 32, nonce=opening["nonce"])
                await wire.say({"type": "Authenticated", "roles": ["worker"], "proof": proof})
                heard.extend(await wire.hear_all())

        group.start_soon(pretend)
        with pytest.raises(NotAdmitted, match="cannot show that it knows the token"):
            await Link.open(server.host, server.port, dial(OWNER))

    assert [line["type"] for line in heard] == ["Proof"]
    assert WORKER not in repr(heard)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"", "closed the connection during the handshake; its log says why"),
        (b"HTTP/1.1 400 Bad Request\r\n", "is no dtm server: wanted one JSON object a line"),
        (b"x" * 2_000_000, "is no dtm server: a line may hold"),
    ],
    ids=["closed", "http", "endless"],
)
async def test_what_is_no_dtm_server_is_unreachable(answer: bytes, complaint: str) -> None:
    """Something else listens there."""
    async with listening() as server, create_task_group() as group:

        async def pretend() -> None:
            async with server.accept() as wire:
                await wire.expect("Authenticate")
                await _say(wire, answer)

        group.start_soon(pretend)
        with pytest.raises(Unreachable, match=complaint):
            await Link.open(server.host, server.port, dial(OWNER))


async def _say(wire: ServerSide, data: bytes) -> None:
    try:
        await wire.say_bytes(data)
    except anyio.BrokenResourceError:
        pass


@pytest.mark.parametrize("credentials", [OWNER, Credentials(tls=ssl.create_default_context())], ids=["token", "tls"])
async def test_a_handshake_that_is_given_up_leaves_no_connection(credentials: Credentials) -> None:
    """As it is when the time to connect is over."""
    async with listening() as server, create_task_group() as group:
        group.start_soon(Link.open, server.host, server.port, dial(credentials))
        async with server.accept() as wire:
            await wire.hear_some(1)
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), fail_after(LONG_S):
                await _until_closed(wire)


async def _until_closed(wire: ServerSide) -> None:
    try:
        while await wire.hear_some(4096):
            pass
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        pass


# Those who use it.


def worker(live: Live, credentials: Credentials) -> Worker:
    """Make a worker."""
    settings = WorkerSettings(host=HOST, port=live.port, name="w", concurrency=1, shutdown_timeout_s=1)
    return Worker(settings, {}, FixedPrefetch(0), connect=dial(credentials), slots=threads, chance=random.Random(1))


@pytest.mark.parametrize(
    ("token", "complaint"),
    [
        (None, "the server refused this client: this server wants a token; name the file .* --token-file FILE"),
        ("x" * 32, "it refused this client: this server knows no such token"),
        (PRODUCER, r"wanted a token of role worker for Register, found one of producer \(forbidden\)"),
    ],
)
async def test_a_worker_that_is_never_let_in_ends(guarded: Live, token: str | None, complaint: str) -> None:
    """Trying again would not change it."""
    credentials = NO_CREDENTIALS if token is None else Credentials(Token(token))

    with fail_after(LONG_S), pytest.raises(ExceptionGroup) as ended:
        await worker(guarded, credentials).run(Event(), Event())
    assert ended.group_contains(NotAdmitted, match=complaint)


async def test_a_worker_without_tls_is_told_so(tmp_path: Path, authority: Authority) -> None:
    """By the server, in the clear."""
    async with serving(tmp_path, **authority.issue().options) as live:
        with fail_after(LONG_S), pytest.raises(ExceptionGroup) as ended:
            await worker(live, NO_CREDENTIALS).run(Event(), Event())
    assert ended.group_contains(NotAdmitted, match=r"this server speaks TLS; .*--tls-ca FILE.*\(tls-required\)")


async def test_a_worker_that_was_let_in_once_waits_for_better_times(tmp_path: Path) -> None:
    """Its token may come back; what it runs goes on meanwhile."""
    path = token_file(tmp_path, f"worker {WORKER}")
    stop = Event()
    with capture_logs() as events:
        async with create_task_group() as group:
            async with serving(tmp_path, token_file=path) as live:
                group.start_soon(worker(live, OWNER).run, stop, stop)
                await eventually(lambda: live.logged("client.register"))
            token_file(tmp_path, f"worker {'n' * 32}")
            async with serving(tmp_path, token_file=path, port=live.port) as live:
                await eventually(lambda: live.logged("client.refused"))
            token_file(tmp_path, f"worker {WORKER}")
            async with serving(tmp_path, token_file=path, port=live.port) as live:
                await eventually(lambda: live.logged("client.register"))
                stop.set()
    assert events is not None


@pytest.mark.parametrize("token", [None, "x" * 32, WORKER])
async def test_a_producer_that_is_not_let_in_says_why(guarded: Live, token: str | None) -> None:
    """Whoever waits for it learns it at once."""
    credentials = NO_CREDENTIALS if token is None else Credentials(Token(token))
    complaints: list[str] = []

    with fail_after(LONG_S), pytest.raises((NotAdmitted, ExceptionGroup)) as ended:
        async with Producer.open(
            HOST,
            guarded.port,
            connect=dial(credentials),
            chance=random.Random(1),
            on_trouble=complaints.append,
        ) as producer:
            await producer.query([1], follow=False)
    told = repr(ended.value)
    assert ("unauthenticated" if token != WORKER else "role producer for Query, found one of worker") in told
    assert complaints == []
