"""Certificates of authorities that exist for one test."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

NAMES = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in files."""

    cert: Path
    key: Path

    @property
    def der(self) -> bytes:
        """The certificate as it goes over the wire."""
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        body = self.cert.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
        return ssl.PEM_cert_to_DER_cert(begin + body + end)

    @property
    def options(self) -> dict[str, Any]:
        """What a server's settings say of it."""
        return {"tls_cert": self.cert, "tls_key": self.key}


class Authority:
    """Signs certificates, and keeps all files in one folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self._name = name
        self.file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, *names: str, called: str = "server", expired: bool = False) -> Pair:
        """Issue a certificate for these names, by default for this machine's."""
        until = datetime.now(UTC) - timedelta(days=1) if expired else None
        since = datetime.now(UTC) - timedelta(days=9) if expired else None
        leaf = self._ca.issue_cert(*(names or NAMES), not_before=since, not_after=until)
        pair = Pair(self._folder / f"{self._name}-{called}.pem", self._folder / f"{self._name}-{called}.key")
        pair.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(pair.key))
        pair.key.chmod(0o600)
        return pair

    def trusting(self, mine: Pair | None = None) -> ssl.SSLContext:
        """Give what a client needs to trust this authority, and to show `mine`."""
        context = ssl.create_default_context(cafile=str(self.file))
        if mine is not None:
            context.load_cert_chain(mine.cert, mine.key)
        return context
