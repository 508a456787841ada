"""TLS, from files to contexts, and OpenSSL's words for what went wrong as a person understands them.

Opens no connections.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from msgspec import Struct

from dtm.security.errors import Misconfigured

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"

# OpenSSL's reason: ours. What is not here is told in OpenSSL's words.
_REASONS = {
    "WRONG_VERSION_NUMBER": "the other side speaks no TLS",
    "HTTP_REQUEST": "the other side speaks HTTP, not TLS",
    "UNKNOWN_PROTOCOL": "the other side speaks no TLS",
    "UNSUPPORTED_PROTOCOL": "the other side knows only versions before TLS 1.2",
    "TLSV1_ALERT_UNKNOWN_CA": "the other side does not know the CA of this side's certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other side wants a certificate",
}
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})


class ServerTls(Struct, frozen=True):
    """How a server speaks TLS: `certificate` is its own (DER), and each client must have one if it says so."""

    context: ssl.SSLContext
    certificate: bytes
    demands_certificate: bool


def server_tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> ServerTls | None:
    """Read a server's files; None if none is given.

    With `client_ca`, a certificate that it did not sign ends the handshake. One that is missing does not: the server
    can then say what is wanted, and lets in nobody but this machine's operator.

    Raises:
        Misconfigured: one of them is missing, unreadable, or does not fit the others.
    """
    if cert is None or key is None:
        if (cert, key, client_ca) != (None, None, None):
            raise Misconfigured("wanted --tls-cert and --tls-key together, found one of them missing")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    _load_chain(context, cert, key)
    if client_ca is not None:
        _load_authorities(context, client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return ServerTls(context, _first_certificate(cert), client_ca is not None)


def client_tls(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """Read a client's files; without `ca` the system's authorities are trusted.

    Raises:
        Misconfigured: one of them is missing, unreadable, or does not fit the others.
    """
    if (cert is None) != (key is None):
        raise Misconfigured("wanted --tls-cert and --tls-key together, found one of them missing")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if ca is None:
        context.load_default_certs()
    else:
        _load_authorities(context, ca)
    if cert is not None and key is not None:
        _load_chain(context, cert, key)
    return context


def pinned_tls() -> ssl.SSLContext:
    """Give a context that takes any certificate: whoever uses it compares the certificate itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def reason_of(error: ssl.SSLError) -> str:
    """Say in a few words why the two sides do not agree."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {error.verify_message.rstrip('.')}"
    name = getattr(error, "reason", None) or ""
    return _REASONS.get(name) or name.replace("_", " ").lower() or str(error)


def is_no_tls(error: ssl.SSLError) -> bool:
    """Whether what came was never meant as TLS."""
    return getattr(error, "reason", None) in _NO_TLS


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A renegotiation would let a peer make the server work for nothing.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION


def _load_chain(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    for flag, path in (("--tls-cert", cert), ("--tls-key", key)):
        _require_readable(flag, path)
    try:
        context.load_cert_chain(cert, key, password=lambda: _refuse("--tls-key", key, "it is encrypted; decrypt it"))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Misconfigured(f"the key {key} does not belong to the certificate {cert}") from error
        raise Misconfigured(
            f"wanted a PEM certificate in {cert} and its PEM key in {key}, found something else ({reason_of(error)})"
        ) from error


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    flag = "--tls-client-ca" if context.protocol == ssl.PROTOCOL_TLS_SERVER else "--tls-ca"
    _require_readable(flag, path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise Misconfigured(f"{flag} {path}: wanted PEM certificates, found none ({reason_of(error)})") from error


def _first_certificate(cert: Path) -> bytes:
    """Give the certificate that is the server's own; those of its chain stand below it."""
    text = cert.read_text(encoding="latin-1")
    begin, end = text.find(_BEGIN), text.find(_END)
    if not 0 <= begin < end:
        _refuse("--tls-cert", cert, f"wanted {_BEGIN}, found none")
    return ssl.PEM_cert_to_DER_cert(text[begin : end + len(_END)])


def _require_readable(flag: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        _refuse(flag, path, f"it cannot be read ({error.strerror})")


def _refuse(flag: str, path: Path, complaint: str) -> NoReturn:
    raise Misconfigured(f"{flag} {path}: {complaint}")
