"""Challenge and response, sans-IO: both sides prove that they know a token, and neither ever sends it.

Everything is fixed: HMAC-SHA256, nonces of 32 bytes, one transcript a side. There is nothing to negotiate, so nothing
to talk a peer out of.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from msgspec import Struct

from dtm.security.tokens import Grant, Token

NONCE_BYTES = 32

# Labels differ, so that what one side has proved cannot be sent back as the proof of the other.
_CLIENT, _SERVER = b"dtm-auth-1 client\n", b"dtm-auth-1 server\n"


class Exchange(Struct, frozen=True):
    """What one handshake is about: a fresh nonce of each side, and the channel on which they talk.

    Every part has a fixed length, so that no two exchanges read the same.
    """

    client_nonce: bytes
    server_nonce: bytes
    channel: bytes

    def __post_init__(self) -> None:
        if {len(part) for part in (self.client_nonce, self.server_nonce, self.channel)} != {NONCE_BYTES}:
            raise ValueError(f"wanted nonces and a channel of {NONCE_BYTES} bytes each, found others")

    def client_proof(self, token: Token) -> bytes:
        """Give what a client that knows `token` answers to the challenge."""
        return token.sign(_CLIENT + self._transcript)

    def server_proof(self, token: Token) -> bytes:
        """Give what a server that knows `token` adds to its welcome."""
        return token.sign(_SERVER + self._transcript)

    def is_servers(self, proof: bytes, token: Token) -> bool:
        """Whether `proof` comes from a server that knows `token`."""
        return hmac.compare_digest(self.server_proof(token), proof)

    def find_prover(self, proof: bytes, grants: Sequence[Grant]) -> Grant | None:
        """Say whose token the client's `proof` was made with; the time it takes does not depend on the answer."""
        found = None
        for grant in grants:
            if hmac.compare_digest(self.client_proof(grant.token), proof):
                found = grant
        return found

    @property
    def _transcript(self) -> bytes:
        return self.client_nonce + self.server_nonce + self.channel


def channel_of(certificate: bytes | None) -> bytes:
    """Name the channel by the server's certificate (DER), or by nothing where there is no TLS.

    Both sides sign it. A proof given to whoever sits in between with a certificate of his own is worth nothing to the
    real server (the idea of RFC 5929, tls-server-end-point).
    """
    return hashlib.sha256(certificate or b"").digest()
