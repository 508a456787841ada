"""From an address to a connection on which both sides know with whom they speak.

Knows no messages but those of the handshake.
"""

from __future__ import annotations

import secrets
import socket
import ssl

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, aclose_forcefully, fail_after
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream

from dtm.client.link import Connect, Unreachable
from dtm.net.stream import TcpStream, connect_tcp
from dtm.protocol.codec import BadLine, decode_from_server, encode
from dtm.protocol.framing import LineBuffer, LineTooLong
from dtm.security.credentials import Credentials
from dtm.security.errors import NotAdmitted
from dtm.security.handshake import NONCE_BYTES, channel_of
from dtm.security.introduction import Introduction
from dtm.security.tls import reason_of
from dtm.security.tokens import Token

# Systems knock after 0, 1, 3, 7 … seconds. Who waits for the fourth knock comes late to a network that has healed.
KNOCK_S = 4.0
# For how long what was sent may stay unconfirmed by the other system. Packets are sent again at ever longer intervals:
# a new connection is there sooner than the old one would wake up.
UNCONFIRMED_S = 4.0
_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)

_BROKEN = (BrokenResourceError, ClosedResourceError, EndOfStream, ssl.SSLError)


def dial(credentials: Credentials) -> Connect:
    """Give the way to connect with `credentials`.

    With a token, a server that does not know it is refused, and so is one that asks for none: whoever stands in for
    the server learns nothing and gets nothing.
    """

    async def connect(host: str, port: int) -> ByteStream:
        stream: ByteStream = await _connected(host, port)
        try:
            if credentials.tls is not None:
                stream = await _secured(stream, host, credentials.tls)
            if credentials.token is not None:
                await _introduced(stream, credentials.token)
        except NotAdmitted as error:
            await aclose_forcefully(stream)
            raise NotAdmitted(f"{host}:{port}: {error}") from error
        except _BROKEN as error:
            await aclose_forcefully(stream)
            raise Unreachable(f"{host}:{port} closed the connection during the handshake; its log says why") from error
        except (BadLine, LineTooLong) as error:
            await aclose_forcefully(stream)
            raise Unreachable(f"{host}:{port} is no dtm server: {error}") from error
        except BaseException:
            await aclose_forcefully(stream)
            raise
        return stream

    return connect


async def _connected(host: str, port: int) -> TcpStream:
    try:
        with fail_after(KNOCK_S):
            stream = await connect_tcp(host, port)
    except TimeoutError:
        raise Unreachable(f"no answer from {host}:{port} within {KNOCK_S:g} s") from None
    if _USER_TIMEOUT is not None:
        raw = stream.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(UNCONFIRMED_S * 1_000))
    return stream


async def _secured(stream: ByteStream, host: str, context: ssl.SSLContext) -> ByteStream:
    try:
        return await TLSStream.wrap(
            stream, server_side=False, hostname=host, ssl_context=context, standard_compatible=False
        )
    except ssl.SSLError as error:
        raise NotAdmitted(f"no TLS: {reason_of(error)}") from error


async def _introduced(stream: ByteStream, token: Token) -> None:
    certificate = stream.extra(TLSAttribute.peer_certificate_binary, None)
    nonce = secrets.token_bytes(NONCE_BYTES)
    await _introduce(stream, Introduction(token, nonce=nonce, channel=channel_of(certificate)))


async def _introduce(stream: ByteStream, introduction: Introduction) -> None:
    lines = LineBuffer()
    await stream.send(encode(introduction.opening))
    while not introduction.is_over:
        for line in lines.feed(await stream.receive()):
            answer = introduction.hear(decode_from_server(line))
            if answer is not None:
                await stream.send(encode(answer))
