"""From an accepted connection to one that is safe from listeners: the TLS handshake, within its deadline."""

from __future__ import annotations

import ssl

import structlog
from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, aclose_forcefully, fail_after
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

from dtm.protocol.codec import ErrorCode, encode
from dtm.protocol.messages import Error
from dtm.security.tls import ServerTls, is_no_tls, reason_of

_TLS_REQUIRED = Error(
    ErrorCode.TLS_REQUIRED, "this server speaks TLS; name the CA of its certificate with --tls-ca FILE, or --tls"
)

log = structlog.get_logger()


async def secured(stream: ByteStream, tls: ServerTls, *, deadline_s: float) -> ByteStream | None:
    """Shake hands; None if that failed, and then the connection is closed and the log says why."""
    try:
        with fail_after(deadline_s):
            # Without the closing handshake of TLS: its end would be waited for, and a line that is cut is no line.
            return await TLSStream.wrap(stream, server_side=True, ssl_context=tls.context, standard_compatible=False)
    except TimeoutError:
        reason = f"no TLS handshake within {deadline_s:g} s"
    except ssl.SSLError as error:
        reason = reason_of(error)
        if is_no_tls(error):
            await _explain(stream, deadline_s)
    except (BrokenResourceError, ClosedResourceError, EndOfStream):
        reason = "it was closed during the TLS handshake"
    except BaseException:
        await aclose_forcefully(stream)
        raise
    log.warning("client.refused", address=address_of(stream), reason=reason)
    await aclose_forcefully(stream)
    return None


def has_certificate(stream: ByteStream) -> bool:
    """Whether the peer has shown a certificate; one that does not hold ends the handshake."""
    return stream.extra(TLSAttribute.peer_certificate_binary, None) is not None


def address_of(stream: ByteStream) -> str:
    """Say where the peer is."""
    address = stream.extra(SocketAttribute.remote_address, "unknown")
    if isinstance(address, str):
        return address
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _explain(stream: ByteStream, deadline_s: float) -> None:
    """Tell a peer that does not speak TLS, in its own words, what is wanted."""
    try:
        with fail_after(deadline_s):
            await stream.send(encode(_TLS_REQUIRED))
    except (BrokenResourceError, ClosedResourceError, TimeoutError):
        pass
