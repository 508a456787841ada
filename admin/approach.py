"""How an operator comes to a server: the connection, TLS, and the handshake that shows who he is.

Knows no commands.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dtm.cli.options import Address
from dtm.core.escapes import escaped
from dtm.protocol import codec
from dtm.protocol.codec import BadLine
from dtm.protocol.framing import LineBuffer, LineTooLong
from dtm.security.errors import NotAdmitted
from dtm.security.handshake import NONCE_BYTES, channel_of
from dtm.security.introduction import Introduction
from dtm.security.tls import pinned_tls, reason_of
from dtm.security.tokens import Token
from dtm.storage.lock import Holder

from .errors import ServerUnreachable
from .place import Afar

_READ_SIZE = 64 * 1024
# A server that listens everywhere listens here, too.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Approach:
    """Where a server is, and how to speak with it.

    `pin` is the fingerprint that its certificate must have, whoever signed it; None leaves that to `tls`. `absence`
    says what it means if nobody is there.
    """

    address: Address
    token: Token
    tls: ssl.SSLContext | None
    pin: str | None
    absence: str


def to_holder(holder: Holder) -> Approach:
    """Give the way to the server of this machine that left `holder` beside its store."""
    return Approach(
        address_of(holder),
        Token(holder.secret),
        pinned_tls() if holder.certificate else None,
        holder.certificate or None,
        f"wanted the server with pid {holder.pid} at {{address}}, found nobody there ({{reason}}); the store is held "
        "all the same: if that server is gone, another process holds it and has to end first",
    )


def from_afar(place: Afar, token: Token) -> Approach:
    """Give the way to a server on another machine."""
    absence = "wanted a dtm server at {address}, found nobody there ({reason}); check --server"
    return Approach(place.address, token, place.credentials.tls, None, absence)


def address_of(holder: Holder) -> Address:
    """Say where the server is reached from the same machine."""
    return Address(_LOOPBACK.get(holder.host, holder.host), holder.port)


@contextmanager
def opened(approach: Approach, *, timeout_s: float) -> Iterator[socket.socket]:
    """Connect, and see that both sides are who they should be.

    Raises:
        ServerUnreachable: nobody answers, or no dtm server.
        NotAdmitted: one of the two refuses the other.
    """
    address = approach.address
    try:
        plain = socket.create_connection((address.host, address.port), timeout=timeout_s)
    except OSError as error:
        raise ServerUnreachable(approach.absence.format(address=address, reason=error)) from error
    with plain, _secured(plain, approach) as connection:
        try:
            _introduce(connection, approach)
        except NotAdmitted as error:
            raise NotAdmitted(f"the server at {address}: {escaped(str(error))}") from error
        except (OSError, BadLine, LineTooLong) as error:
            raise ServerUnreachable(
                f"wanted an answer of the server at {address}, found no handshake ({error}); nothing was done"
            ) from error
        yield connection


def _secured(connection: socket.socket, approach: Approach) -> socket.socket:
    if approach.tls is None:
        return connection
    try:
        secured = approach.tls.wrap_socket(connection, server_hostname=approach.address.host)
    except ssl.SSLError as error:
        raise NotAdmitted(f"the server at {approach.address}: no TLS: {reason_of(error)}") from error
    except OSError as error:
        raise ServerUnreachable(
            f"the server at {approach.address} broke off the TLS handshake ({error}); nothing was done"
        ) from error
    found = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
    if approach.pin is not None and not hmac.compare_digest(found, approach.pin):
        secured.close()
        raise NotAdmitted(
            f"the server at {approach.address} has another certificate than the one that holds the store; "
            "find out which process that is"
        )
    return secured


def _introduce(connection: socket.socket, approach: Approach) -> None:
    certificate = connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None
    nonce = secrets.token_bytes(NONCE_BYTES)
    introduction = Introduction(approach.token, nonce=nonce, channel=channel_of(certificate))
    lines = LineBuffer()
    connection.sendall(codec.encode(introduction.opening))
    while not introduction.is_over:
        data = connection.recv(_READ_SIZE)
        if not data:
            raise ConnectionError("the server closed the connection")
        for line in lines.feed(data):
            answer = introduction.hear(codec.decode_from_server(line))
            if answer is not None:
                connection.sendall(codec.encode(answer))
