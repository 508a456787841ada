"""Which addresses a server may listen on without protection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from dtm.security.errors import Misconfigured


class Exposed(Misconfigured):
    """Other machines could reach a server that does not ask who is there, or speaks in the clear."""

    def __init__(self, message: str, missing: Sequence[str]) -> None:
        super().__init__(message)
        self.missing = missing


def require_protection(host: str, addresses: Iterable[str], *, has_token: bool, has_tls: bool) -> None:
    """Make sure that a server which other machines can reach has both a token and TLS.

    Args:
        host: as the operator wrote it.
        addresses: everything it stands for.

    Raises:
        Exposed: it lacks one of them.
    """
    exposed = [address for address in addresses if not is_loopback(address)]
    missing = [flags for flags, is_there in ((_TOKEN, has_token), (_TLS, has_tls)) if not is_there]
    if not exposed or not missing:
        return
    meaning = "" if host == exposed[0] else f" ({exposed[0]})"
    raise Exposed(
        f"wanted protection to listen on {host or 'every address'}{meaning}, where other machines can connect; "
        f"add {' and '.join(missing)}, listen on 127.0.0.1, or accept the risk with --insecure",
        missing,
    )


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    return ip_address(address).is_loopback


_TOKEN = "--token-file FILE"
_TLS = "--tls-cert FILE --tls-key FILE"
