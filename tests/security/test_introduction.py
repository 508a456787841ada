"""The client's part of the handshake, as a table: what comes, and what it makes of it."""

from __future__ import annotations

import pytest

from dtm.protocol.messages import (
    Authenticate,
    Authenticated,
    Challenge,
    Error,
    Proof,
    RegisterResponse,
    ServerMessage,
    ShuttingDown,
)
from dtm.security.errors import NotAdmitted
from dtm.security.handshake import channel_of
from dtm.security.introduction import Introduction
from dtm.security.tokens import Token
from tests.introduction import NONCE, proof_of
from tests.security.files import ADMIN, WORKER

SERVER_NONCE = "c4" * 32
CHALLENGE = Challenge(SERVER_NONCE)
RIGHT = Authenticated(["worker"], proof_of("server", WORKER, SERVER_NONCE))
FORGED = [
    proof_of("server", ADMIN, SERVER_NONCE),
    proof_of("client", WORKER, SERVER_NONCE),
    proof_of("server", WORKER, "00" * 32),
    proof_of("server", WORKER, SERVER_NONCE, nonce="00" * 32),
    proof_of("server", WORKER, SERVER_NONCE, certificate=b"of somebody in between"),
    "00" * 32,
]


def introduction(*said: ServerMessage) -> Introduction:
    """Begin one, and let it hear something."""
    begun = Introduction(Token(WORKER), nonce=bytes.fromhex(NONCE), channel=channel_of(None))
    for message in said:
        begun.hear(message)
    return begun


def test_the_client_speaks_first() -> None:
    """So that a server that asks for nothing is one that cannot answer."""
    assert introduction().opening == Authenticate(NONCE)


def test_both_sides_prove_themselves() -> None:
    """The challenge is answered; the server's own proof ends it."""
    begun = introduction()

    assert begun.hear(CHALLENGE) == Proof(proof_of("client", WORKER, SERVER_NONCE))
    assert not begun.is_over
    assert begun.hear(RIGHT) is None
    assert begun.is_over


def test_what_is_said_to_everybody_is_passed_over() -> None:
    """A server that shuts down says so at any moment."""
    begun = introduction(ShuttingDown(), CHALLENGE, ShuttingDown(), RIGHT)

    assert begun.is_over


@pytest.mark.parametrize("proof", FORGED)
def test_a_server_that_does_not_know_the_token_is_refused(proof: str) -> None:
    """Whatever it has heard elsewhere."""
    begun = introduction(CHALLENGE)

    with pytest.raises(NotAdmitted, match="cannot show that it knows the token"):
        begun.hear(Authenticated(["worker"], proof))
    assert not begun.is_over


@pytest.mark.parametrize(
    ("before", "message", "complaint"),
    [
        ((), RIGHT, "said Authenticated out of turn"),
        ((CHALLENGE,), CHALLENGE, "said Challenge out of turn"),
        ((), Error("unauthenticated", "no"), r"it refused this client: no \(unauthenticated\)"),
        ((CHALLENGE,), Error("tls-required", "no"), r"it refused this client: no \(tls-required\)"),
        ((), Error("bad-message", "what is Authenticate?"), "it refused this client"),
    ],
)
def test_a_server_out_of_turn_is_refused(
    before: tuple[ServerMessage, ...], message: ServerMessage, complaint: str
) -> None:
    """There is no way around the proof: one that is happy without is not the server that was wanted."""
    begun = introduction(*before)

    with pytest.raises(NotAdmitted, match=complaint):
        begun.hear(message)
    assert not begun.is_over


def test_a_welcome_of_another_kind_is_none() -> None:
    """A server without tokens may go on as if nothing had been asked; the handshake does not end by that."""
    begun = introduction()
    welcome = RegisterResponse(
        client_id=1, server="x", protocol=1, heartbeat_interval=1, heartbeat_timeout=3, resumed=[], lost=[]
    )

    assert begun.hear(welcome) is None
    assert not begun.is_over
