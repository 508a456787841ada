"""Who may say what: a server with tokens, and one without."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dtm.security.tokens import Role
from dtm.server.admission import ALLOWS
from dtm.server.connection import STRANGERS_MAX_LINE
from tests.introduction import NONCE, introduce, proof_of
from tests.security.files import ADMIN, BOTH, PRODUCER, WORKER, token_file
from tests.server.live import Live, Peer, registration, serving, submission
from tests.wire import Line

PING: Line = {"type": "PingRequest", "timestamp": 1}
STATS: Line = {"type": "Admin", "ref": 9, "command": "stats", "args": {}}
SAYS: dict[str, Line] = {
    "Register": registration("A"),
    "Result": {"type": "Result", "task_id": 1, "assignment": 1, "ok": True},
    "Release": {"type": "Release", "task_id": 1, "assignment": 1},
    "Progress": {"type": "Progress", "task_id": 1, "assignment": 1},
    "Capacity": {"type": "Capacity", "capacity": 1},
    "Submit": submission({"kind": "A"}, ref=9),
    "Query": {"type": "Query", "ref": 9, "ids": []},
    "CancelRequest": {"type": "CancelRequest", "ref": 9, "ids": []},
    "Admin": STATS,
    "PingRequest": PING,
}
TOKENS = {"worker": WORKER, "producer": PRODUCER, "admin": ADMIN}
MAY: dict[str, set[str]] = {
    "worker": {"Register", "Result", "Release", "Progress", "Capacity", "PingRequest"},
    "producer": {"Submit", "Query", "CancelRequest", "PingRequest"},
    "admin": {"Admin", "PingRequest"},
}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Live]:
    """A server that knows a token of each role, and one of two."""
    path = token_file(tmp_path, *(f"{role} {token}" for role, token in TOKENS.items()), f"worker,producer {BOTH}")
    async with serving(tmp_path, token_file=path) as live:
        yield live


@pytest.fixture
async def stranger(guarded: Live) -> AsyncIterator[Peer]:
    """A connection that has said nothing."""
    async with guarded.dial() as peer:
        yield peer


def refused(answer: Line, code: str) -> str:
    """Make sure that the answer is this refusal, and give its words."""
    assert (answer["type"], answer["code"]) == ("Error", code), answer
    words: str = answer["message"]
    return words


def test_every_message_has_one_role() -> None:
    """What the tests below send is all there is, and no message belongs to two roles."""
    kinds = [kind.__name__ for role in Role for kind in ALLOWS[role]]

    assert sorted(kinds) == sorted(SAYS.keys() - {"PingRequest"})


@pytest.mark.parametrize("role", TOKENS)
@pytest.mark.parametrize("kind", SAYS)
async def test_a_role_may_say_what_is_its_own(guarded: Live, role: str, kind: str) -> None:
    """The whole table: the rest is forbidden, with both roles named, and the connection goes on."""
    async with guarded.dial() as peer:
        welcome = await introduce(peer, TOKENS[role])
        await peer.say(SAYS[kind], PING)
        heard = [await peer.hear()]
        while heard[-1]["type"] != "PingResponse":
            heard.append(await peer.hear())
        answer = heard[0]

    assert welcome["roles"] == [role]
    if kind in MAY[role]:
        assert answer.get("code") != "forbidden"
    else:
        words = refused(answer, "forbidden")
        assert words.endswith(f"found one of {role}")
        assert f"for {kind}" in words
        assert answer.get("ref") == SAYS[kind].get("ref")


async def test_a_token_of_two_roles_does_both(stranger: Peer) -> None:
    """And nothing else."""
    welcome = await introduce(stranger, BOTH)

    assert welcome["roles"] == ["producer", "worker"]
    await stranger.register("A")
    await stranger.submit({"kind": "A"})
    assert refused((await _until_error(stranger, STATS))[-1], "forbidden")


async def _until_error(peer: Peer, message: Line) -> list[Line]:
    await peer.say(message)
    heard = [await peer.hear()]
    while heard[-1]["type"] != "Error":
        heard.append(await peer.hear())
    return heard


@pytest.mark.parametrize("kind", [*SAYS, "Goodbye"])
async def test_a_stranger_is_told_what_is_wanted_and_not_heard_further(guarded: Live, kind: str) -> None:
    """One Error that names the option, and the end; what he sent behind it is not looked at."""
    async with guarded.dial() as peer:
        await peer.say(SAYS.get(kind, {"type": kind}), PING, SAYS["Submit"])
        (answer,) = await peer.hear_all()

    assert "--token-file" in refused(answer, "unauthenticated")
    assert answer.get("ref") == SAYS.get(kind, {}).get("ref")
    with guarded.reader() as reader:
        assert reader.newest_tasks(state=None, kind=None, limit=1) == []


@pytest.mark.parametrize("token", ["x" * 32, WORKER[:-1], WORKER + "x", ""])
async def test_a_wrong_token_ends_the_connection(guarded: Live, token: str) -> None:
    """There is one try a connection, and the log says from where."""
    async with guarded.dial() as peer:
        answer = await introduce(peer, token)

        assert "knows no such token" in refused(answer, "unauthenticated")
        assert await peer.hear_all() == []
    assert [event["reason"] for event in guarded.logged("client.refused")] == [answer["message"]]


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ([{"type": "Proof", "proof": "00" * 32}], "wanted Authenticate first"),
        ([{"type": "Authenticate", "nonce": NONCE}] * 2, "wanted one Authenticate a connection"),
    ],
)
async def test_the_handshake_has_one_order(guarded: Live, said: list[Line], complaint: str) -> None:
    """Whatever comes out of turn ends it."""
    async with guarded.dial() as peer:
        await peer.say(*said, PING)
        *_, answer = await peer.hear_all()

    assert complaint in refused(answer, "unauthenticated")


async def test_a_handshake_is_not_repeated(stranger: Peer) -> None:
    """Not even by one who is known."""
    await introduce(stranger, WORKER)
    await stranger.say({"type": "Authenticate", "nonce": NONCE}, PING)

    (answer,) = await stranger.hear_all()
    assert refused(answer, "unauthenticated")


async def test_a_recorded_handshake_is_worth_nothing(guarded: Live) -> None:
    """Each connection has a challenge of its own."""
    async with guarded.dial() as peer:
        challenge = await peer.ask({"type": "Authenticate", "nonce": NONCE})
        proof = proof_of("client", WORKER, challenge["nonce"])
        assert (await peer.ask({"type": "Proof", "proof": proof}))["type"] == "Authenticated"
    async with guarded.dial() as peer:
        again = await peer.ask({"type": "Authenticate", "nonce": NONCE})
        answer = await peer.ask({"type": "Proof", "proof": proof})

    assert again["nonce"] != challenge["nonce"]
    assert refused(answer, "unauthenticated")


async def test_the_servers_own_proof_is_none_of_a_client(guarded: Live) -> None:
    """Whoever has no token cannot let one connection answer for another."""
    async with guarded.dial() as peer, guarded.dial() as mirror:
        challenge = await peer.ask({"type": "Authenticate", "nonce": NONCE})
        other = await mirror.ask({"type": "Authenticate", "nonce": challenge["nonce"]})
        server_proof = proof_of("server", WORKER, other["nonce"], nonce=challenge["nonce"])

        assert refused(await peer.ask({"type": "Proof", "proof": server_proof}), "unauthenticated")


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"type":"Authenticate","nonce":"short"}\n',
        b'{"type":"Authenticate","nonce":"' + b"0" * 63 + b'\\n"}\n',
        b'{"type":"Authenticate","nonce":"' + b"A" * 64 + b'"}\n',
        b'{"type":"Hello"}\n',
        b" " * STRANGERS_MAX_LINE + b"{}\n",
        b"x" * (STRANGERS_MAX_LINE + 1),
    ],
    ids=["word", "list", "short", "newline", "upper", "unknown", "long", "endless"],
)
async def test_a_strangers_nonsense_is_not_looked_into(guarded: Live, line: bytes) -> None:
    """He gets the same answer as any other, and no more of the server's time."""
    async with guarded.dial() as peer:
        await peer.say_bytes(line)
        (answer,) = await peer.hear_all()

    assert "--token-file" in refused(answer, "unauthenticated")
    assert not guarded.logged("connection.failed")


async def test_one_who_is_known_may_speak_at_length(stranger: Peer) -> None:
    """The bound of strangers falls with the proof, also for what comes in one piece with it."""
    challenge = await stranger.ask({"type": "Authenticate", "nonce": NONCE})
    proof: Line = {"type": "Proof", "proof": proof_of("client", PRODUCER, challenge["nonce"])}
    await stranger.say(proof, submission({"kind": "A", "payload": "x" * 100_000}))

    await stranger.expect("Authenticated")
    await stranger.expect("SubmitResponse")


async def test_the_operator_of_the_machine_is_known_without_a_line_of_his_own(stranger: Peer, guarded: Live) -> None:
    """By the secret that lies beside the store."""
    await stranger.become_operator(guarded)
    answer = await stranger.ask(STATS)

    assert answer["type"] == "AdminResponse"


async def test_a_server_without_tokens_takes_anybody(live: Live, peer: Peer) -> None:
    """As it was; only the operator's commands need a proof."""
    await peer.register("A")

    assert refused(await peer.ask(STATS), "unauthenticated")


async def test_no_token_is_logged(guarded: Live) -> None:
    """Nor any part of the handshake that one could try tokens with."""
    async with guarded.dial() as peer, guarded.dial() as other:
        proof = (await introduce(peer, WORKER))["proof"]
        await introduce(other, "x" * 32)
    told = repr(guarded.events)

    assert guarded.logged("client.authenticated")[0]["roles"] == ["worker"]
    for secret in (*TOKENS.values(), BOTH, guarded.secret, NONCE, proof):
        assert secret not in told
