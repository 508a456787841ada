"""Who speaks on a connection, and what that lets them say.

Knows no tasks: whatever passes here is somebody else's to carry out.
"""

from __future__ import annotations

import secrets
from typing import Protocol

import structlog
from msgspec import Struct

from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.protocol.messages import ClientMessage
from dtm.security.handshake import NONCE_BYTES, Exchange, channel_of
from dtm.security.tls import ServerTls
from dtm.security.tokens import Grant, Role
from dtm.server.roster import Outlet
from dtm.server.translate import Dismissed, Unacceptable

Kinds = frozenset[type[ClientMessage]]

ALLOWS: dict[Role, Kinds] = {
    Role.WORKER: frozenset(
        {messages.Register, messages.Result, messages.Release, messages.Progress, messages.Capacity}
    ),
    Role.PRODUCER: frozenset({messages.Submit, messages.Query, messages.CancelRequest}),
    Role.ADMIN: frozenset({messages.Admin}),
}
"""What each role may say. An operator's token submits nothing, unless its line names that role too."""

HANDSHAKE: Kinds = frozenset({messages.Authenticate, messages.Proof})
_ALWAYS: Kinds = frozenset({messages.PingRequest, messages.Goodbye})
_EVERYTHING_BUT_ADMIN = ALLOWS[Role.WORKER] | ALLOWS[Role.PRODUCER] | _ALWAYS


class Admit(Protocol):
    """Gives a connection its place among those that are served."""

    def __call__(self, *, is_operator: bool) -> None:
        """Raise `Dismissed` if there is none."""


log = structlog.get_logger()


class Access(Struct, frozen=True):
    """Whom a server lets in: those who know a token, on connections that are as it demands."""

    grants: tuple[Grant, ...]
    demands_token: bool
    tls: ServerTls | None = None

    @property
    def channel(self) -> bytes:
        """What both sides of a handshake sign besides their nonces."""
        return channel_of(None if self.tls is None else self.tls.certificate)

    @property
    def fingerprint(self) -> str:
        """The certificate's SHA-256 in hexadecimal digits; empty without TLS."""
        return "" if self.tls is None else self.channel.hex()

    @property
    def demands_certificate(self) -> bool:
        """Whether a client must have a certificate."""
        return self.tls is not None and self.tls.demands_certificate


class Admission:
    """How far one connection has come."""

    def __init__(self, access: Access, *, outlet: Outlet, address: str, has_certificate: bool, admit: Admit) -> None:
        self._access = access
        self._outlet = outlet
        self._address = address
        self._admit = admit
        self._lacks_certificate = access.demands_certificate and not has_certificate
        self._exchange: Exchange | None = None
        self._roles: frozenset[Role] = frozenset()
        is_open = not access.demands_token and not self._lacks_certificate
        self._allowed: Kinds = _EVERYTHING_BUT_ADMIN if is_open else frozenset()
        self.is_known = is_open

    def require(self, message: ClientMessage) -> None:
        """Make sure that whoever speaks may say `message`.

        Raises:
            Unacceptable: he is known, and may not.
            Dismissed: he is not known.
        """
        if type(message) not in self._allowed and type(message) not in HANDSHAKE:
            raise self._refusal(message)

    def authenticate(self, message: messages.Authenticate) -> None:
        """Challenge the client.

        Raises:
            Dismissed: there was a handshake on this connection.
        """
        if self._exchange is not None:
            raise self._dismissal("wanted one Authenticate a connection, found another; connect again")
        nonce = secrets.token_bytes(NONCE_BYTES)
        self._exchange = Exchange(bytes.fromhex(message.nonce), nonce, self._access.channel)
        self._outlet.send([messages.Challenge(nonce.hex())])

    def prove(self, message: messages.Proof) -> None:
        """Let the client in, or not; there is no second try.

        Raises:
            Dismissed: it knows no token, or has no certificate, or there is no place for it.
        """
        if self._exchange is None or self._roles:
            raise self._dismissal("wanted Authenticate first, and one Proof after its Challenge")
        grant = self._exchange.find_prover(bytes.fromhex(message.proof), self._access.grants)
        if self._lacks_certificate and (grant is None or not grant.is_local):
            raise self._dismissal(_NO_CERTIFICATE)
        if grant is None:
            raise self._dismissal(_WRONG_TOKEN if self._access.demands_token else _NO_TOKENS)
        self._admit(is_operator=Role.ADMIN in grant.roles)
        self._welcome(grant, self._exchange)

    def _welcome(self, grant: Grant, exchange: Exchange) -> None:
        self._roles = grant.roles
        self._allowed = _ALWAYS.union(self._allowed, *(ALLOWS[role] for role in grant.roles))
        self.is_known = True
        proof = exchange.server_proof(grant.token).hex()
        roles = sorted(map(str, grant.roles))
        self._outlet.send([messages.Authenticated(roles, proof)])
        log.info("client.authenticated", address=self._address, roles=roles)

    def refuse(self) -> messages.Error:
        """Say what is wanted of one who is not known."""
        return messages.Error(ErrorCode.UNAUTHENTICATED, str(self._dismissal(self._wanted)))

    @property
    def _wanted(self) -> str:
        return _NO_CERTIFICATE if self._lacks_certificate else _NO_TOKEN

    def _refusal(self, message: ClientMessage) -> Exception:
        kind = type(message)
        wanted = next((role for role, kinds in ALLOWS.items() if kind in kinds), None)
        if self._roles:
            return Unacceptable(
                ErrorCode.FORBIDDEN,
                f"wanted a token of role {wanted} for {kind.__name__}, found one of {', '.join(sorted(self._roles))}",
            )
        if not self.is_known:
            return self._dismissal(self._wanted)
        return self._dismissal(f"wanted a token of role {wanted} for {kind.__name__}, found none; name one's file")

    def _dismissal(self, reason: str) -> Dismissed:
        log.warning("client.refused", address=self._address, reason=reason)
        return Dismissed(ErrorCode.UNAUTHENTICATED, reason)


_NO_TOKEN = "this server wants a token; name the file that holds it with --token-file FILE"
_WRONG_TOKEN = "this server knows no such token; compare --token-file here and there"
_NO_TOKENS = "this server was started without --token-file and knows no client's token"
_NO_CERTIFICATE = "this server wants a client certificate; name it with --tls-cert FILE and --tls-key FILE"
