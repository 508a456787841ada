"""The client's part of the handshake, message by message, sans-IO: dtm-client and dtm-admin both speak through it."""

from __future__ import annotations

from dtm.protocol.codec import ErrorCode
from dtm.protocol.messages import Authenticate, Authenticated, Challenge, Error, Proof, ServerMessage
from dtm.security.errors import NotAdmitted
from dtm.security.handshake import Exchange
from dtm.security.tokens import Token

REFUSES_CLIENT = frozenset({ErrorCode.UNAUTHENTICATED, ErrorCode.TLS_REQUIRED})
"""What a server says before it closes the connection to one whom it does not let in."""


class Introduction:
    """One handshake. First say `opening`, then `hear` what comes and say what that gives, until it `is_over`."""

    def __init__(self, token: Token, *, nonce: bytes, channel: bytes) -> None:
        self._token = token
        self._nonce = nonce
        self._channel = channel
        self._exchange: Exchange | None = None
        self.is_over = False

    @property
    def opening(self) -> Authenticate:
        """The first word, which is the client's."""
        return Authenticate(self._nonce.hex())

    def hear(self, message: ServerMessage) -> Proof | None:
        """Give the answer to what the server says, if there is one.

        Raises:
            NotAdmitted: the server refuses this client, or does not show that it knows the token. A server that asks
                for no proof is none of those that this client wants.
        """
        match message:
            case Challenge(nonce=nonce) if self._exchange is None:
                self._exchange = Exchange(self._nonce, bytes.fromhex(nonce), self._channel)
                return Proof(self._exchange.client_proof(self._token).hex())
            case Authenticated(proof=proof) if self._exchange is not None:
                if not self._exchange.is_servers(bytes.fromhex(proof), self._token):
                    raise NotAdmitted("it cannot show that it knows the token, so it may not be the server it seems")
                self.is_over = True
            case Error(code=code, message=reason):
                raise NotAdmitted(f"it refused this client: {reason} ({code})")
            case Challenge() | Authenticated():
                raise NotAdmitted(f"it said {type(message).__name__} out of turn, so it may not be the server it seems")
            # Anything else, such as ShuttingDown, is said to everybody.
        return None
