"""The proofs: what they are, and that nothing but the right token makes them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtm.security.handshake import Exchange, channel_of
from dtm.security.tokens import Grant, Role, Token
from tests.introduction import proof_of
from tests.security.files import ADMIN, PRODUCER, WORKER

NONCES = [bytes([number]) * 32 for number in (1, 2)]
CERTIFICATE = b"a certificate"

nonces = st.binary(min_size=32, max_size=32)


def exchange(*, client: bytes = NONCES[0], server: bytes = NONCES[1], certificate: bytes | None = None) -> Exchange:
    """Make an exchange."""
    return Exchange(client, server, channel_of(certificate))


def granted(secret: str, *roles: Role) -> Grant:
    """Make a grant."""
    return Grant(Token(secret), frozenset(roles))


@pytest.mark.parametrize("certificate", [b"", CERTIFICATE])
def test_proofs_are_those_of_the_page(certificate: bytes) -> None:
    """HMAC-SHA256 over label, nonces and channel, as docs/protocol.md says and another implementation computes."""
    found = exchange(certificate=certificate or None)
    client, server = (
        proof_of(label, WORKER, NONCES[1].hex(), nonce=NONCES[0].hex(), certificate=certificate)
        for label in ("client", "server")
    )

    assert found.client_proof(Token(WORKER)).hex() == client
    assert found.server_proof(Token(WORKER)).hex() == server


def test_the_pages_example_is_right() -> None:
    """Whoever writes a client compares with it; no change of both sides goes unseen."""
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")

    assert f"`{WORKER}`" in page
    assert f"client  {exchange().client_proof(Token(WORKER)).hex()}\n" in page
    assert f"server  {exchange().server_proof(Token(WORKER)).hex()}\n" in page


def test_the_prover_is_found_among_all() -> None:
    """Whichever line his token stands on."""
    grants = [granted(WORKER, Role.WORKER), granted(PRODUCER, Role.PRODUCER), granted(ADMIN, Role.ADMIN)]

    for grant in grants:
        assert exchange().find_prover(exchange().client_proof(grant.token), grants) is grant
    assert exchange().find_prover(exchange().client_proof(Token("x" * 32)), grants) is None
    assert exchange().find_prover(exchange().client_proof(grants[0].token), []) is None


def test_every_token_is_tried() -> None:
    """The time it takes does not tell which line fits, or whether one does."""
    tried: list[bytes] = []

    class Counting(Token):
        __slots__ = ()

        def sign(self, message: bytes) -> bytes:
            tried.append(message)
            return super().sign(message)

    grants = [Grant(Counting(secret), frozenset()) for secret in (WORKER, PRODUCER, ADMIN)]
    for secret in (WORKER, ADMIN, "x" * 32):
        tried.clear()
        exchange().find_prover(exchange().client_proof(Token(secret)), grants)

        assert len(tried) == 3


def test_nothing_else_passes() -> None:
    """Not the other side's proof, not another exchange's, not another channel's, not part of one."""
    grants, token = [granted(WORKER, Role.WORKER)], Token(WORKER)
    right = exchange().client_proof(token)
    wrong = [
        exchange().server_proof(token),
        exchange(client=NONCES[1], server=NONCES[0]).client_proof(token),
        exchange(server=b"\0" * 32).client_proof(token),
        exchange(client=b"\0" * 32).client_proof(token),
        exchange(certificate=CERTIFICATE).client_proof(token),
        exchange().client_proof(Token(WORKER + "x")),
        right[:-1],
        right + b"\0",
        b"",
    ]

    assert exchange().find_prover(right, grants) is grants[0]
    assert [exchange().find_prover(proof, grants) for proof in wrong] == [None] * len(wrong)
    assert exchange().is_servers(exchange().server_proof(token), token)
    assert not exchange().is_servers(right, token)


@given(nonces, nonces, st.one_of(st.none(), st.binary(min_size=1, max_size=8)))
def test_no_two_exchanges_read_the_same(client: bytes, server: bytes, certificate: bytes | None) -> None:
    """Changing any part, or moving a byte from one to the next, changes both proofs."""
    token = Token(WORKER)
    one = exchange(client=client, server=server, certificate=certificate)
    others = [
        exchange(client=server, server=client, certificate=certificate),
        exchange(client=client[1:] + server[:1], server=server[1:] + client[:1], certificate=certificate),
        exchange(client=client, server=server, certificate=b"another"),
    ]
    proofs = {e.client_proof(token) for e in (one, *others)} | {e.server_proof(token) for e in (one, *others)}
    different = {(e.client_nonce, e.server_nonce, e.channel) for e in (one, *others)}

    assert len(proofs) == 2 * len(different)


@pytest.mark.parametrize("sizes", [sizes for sizes in itertools.product((31, 32, 33), repeat=3) if sizes != (32,) * 3])
def test_parts_of_other_lengths_are_refused(sizes: tuple[int, int, int]) -> None:
    """The transcript is unambiguous because every length is fixed."""
    with pytest.raises(ValueError, match="32 bytes"):
        Exchange(*(b"x" * size for size in sizes))
