"""Which server an app speaks to, and with what.

From its arguments; else, where a worker runs tasks, the server that has given them out; else from the variables that
dtm-client reads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, structs

from dtm.client.origin import origin
from dtm.core.addresses import Address, parse_address
from dtm.security.errors import Misconfigured
from dtm.security.files import CredentialFiles

DEFAULT = "127.0.0.1:12345"

_YES = ("1", "true", "t", "yes", "y", "on")
_NO = ("", "0", "false", "f", "no", "n", "off")


class Server(Struct, frozen=True, kw_only=True):
    """What an app was told of its server; None stands for what the worker that runs here, or the environment, says."""

    address: str | None = None
    token_file: Path | None = None
    tls: bool | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def find(self, environment: Mapping[str, str] = os.environ) -> tuple[Address, CredentialFiles]:
        """Give the address and the files.

        Raises:
            Misconfigured: a variable, or the address that was given, is none.
        """
        if self.address is None:
            # Of another server the worker's token is none of the business, and its authorities know nothing.
            environment = origin() or environment

        def path(given: Path | None, variable: str) -> Path | None:
            return given or (Path(environment[variable]) if environment.get(variable) else None)

        where = "the server" if self.address else "DTM_SERVER"
        try:
            address = parse_address(self.address or environment.get("DTM_SERVER") or DEFAULT)
        except ValueError as error:
            raise Misconfigured(f"{where}: {error}") from error
        return address, CredentialFiles(
            token_file=path(self.token_file, "DTM_TOKEN_FILE"),
            tls=_flag("DTM_TLS", environment.get("DTM_TLS", "")) if self.tls is None else self.tls,
            tls_ca=path(self.tls_ca, "DTM_TLS_CA"),
            tls_cert=path(self.tls_cert, "DTM_TLS_CERT"),
            tls_key=path(self.tls_key, "DTM_TLS_KEY"),
        )


def variables(address: Address, files: CredentialFiles) -> dict[str, str]:
    """Write the environment in which `find` would give these, wherever the program goes meanwhile."""
    named = {name: value for name, value in structs.asdict(files).items() if value}
    return {
        "DTM_SERVER": str(address),
        **{f"DTM_{name.upper()}": "1" if value is True else str(value.absolute()) for name, value in named.items()},
    }


def _flag(variable: str, text: str) -> bool:
    if text.strip().lower() not in (*_YES, *_NO):
        raise Misconfigured(f"{variable}: wanted true or false, found {text!r}")
    return text.strip().lower() in _YES
