"""The files with which a client shows who it is and checks who the server is.

Knows no command line and opens no connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, structs

from dtm.security.credentials import Credentials
from dtm.security.tls import client_tls
from dtm.security.tokens import read_token


class CredentialFiles(Struct, frozen=True, kw_only=True):
    """Where a client's credentials are."""

    token_file: Path | None = None
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def read(self) -> Credentials:
        """Read the files; naming one for TLS asks for TLS.

        Raises:
            Misconfigured: one of them cannot be used.
        """
        speaks_tls = self.tls or (self.tls_ca, self.tls_cert, self.tls_key) != (None, None, None)
        return Credentials(
            None if self.token_file is None else read_token(self.token_file),
            client_tls(self.tls_ca, self.tls_cert, self.tls_key) if speaks_tls else None,
        )

    def words(self) -> Iterator[str]:
        """Give the command line that says the same: paths, never what the files hold."""
        for name, value in structs.asdict(self).items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                yield flag
            elif value:
                yield from (flag, str(value))
