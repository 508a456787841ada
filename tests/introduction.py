"""The handshake, spoken by hand as docs/protocol.md has it: a second opinion on the proofs, from the page alone."""

from __future__ import annotations

import hashlib
import hmac

from tests.wire import Line, Wire

NONCE = "5e" * 32


def proof_of(label: str, token: str, server_nonce: str, *, nonce: str = NONCE, certificate: bytes = b"") -> str:
    """Compute a side's proof."""
    channel = hashlib.sha256(certificate).digest()
    transcript = f"dtm-auth-1 {label}\n".encode() + bytes.fromhex(nonce) + bytes.fromhex(server_nonce) + channel
    return hmac.new(token.encode(), transcript, hashlib.sha256).hexdigest()


async def introduce(wire: Wire, token: str, *, certificate: bytes = b"") -> Line:
    """Authenticate, check the server's own proof, and give its answer."""
    challenge = await wire.ask({"type": "Authenticate", "nonce": NONCE})
    assert challenge["type"] == "Challenge", challenge
    server_nonce = challenge["nonce"]
    answer = await wire.ask(
        {"type": "Proof", "proof": proof_of("client", token, server_nonce, certificate=certificate)}
    )
    if answer["type"] == "Authenticated":
        assert answer["proof"] == proof_of("server", token, server_nonce, certificate=certificate)
    return answer
