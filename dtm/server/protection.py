"""How a server is protected: what its settings name, read and checked before anything is opened."""

from __future__ import annotations

import socket

import anyio
import structlog

from dtm.security.exposure import Exposed, require_protection
from dtm.security.tls import server_tls
from dtm.security.tokens import grant_locally, read_grants
from dtm.server.admission import Access
from dtm.server.listener import CannotListen
from dtm.server.settings import Settings

log = structlog.get_logger()


def access_of(settings: Settings, secret: str) -> Access:
    """Read whom the server is to let in; `secret` is what the operator of this machine finds beside the store.

    Raises:
        Misconfigured: a file is missing, wrong, or open to others.
    """
    demanded = [] if settings.token_file is None else read_grants(settings.token_file)
    tls = server_tls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    return Access((*demanded, grant_locally(secret)), demands_token=bool(demanded), tls=tls)


async def refuse_exposure(settings: Settings) -> None:
    """Make sure that no other machine reaches a server without protection, unless the operator insists.

    Raises:
        Exposed: one would.
        CannotListen: there is no such host.
    """
    try:
        require_protection(
            settings.host,
            await _addresses_of(settings.host),
            has_token=settings.token_file is not None,
            has_tls=settings.tls_cert is not None,
        )
    except Exposed as error:
        if not settings.insecure:
            raise
        log.warning("server.exposed", host=settings.host, missing=list(error.missing))


async def _addresses_of(host: str) -> list[str]:
    # As the listener asks, whose answer counts: an empty name means every address, not this machine.
    try:
        found = await anyio.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise CannotListen(
            f"cannot listen on {host}: no such host ({error.strerror}); choose another --host"
        ) from error
    return [str(address[0]) for *_, address in found]
