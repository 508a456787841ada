"""Where a server listens, and how that is written.

Knows no socket and no command line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address

_HIGHEST_PORT = 65_535
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^\[\]:/@\s]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; port 0 means any free port. Its text is the form that `ADDRESS` takes."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read `127.0.0.1:12345`, `[::1]:12345` or `host:12345`.

    Raises:
        ValueError: `text` is something else.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > _HIGHEST_PORT or not _is_ipv6(match["ipv6"] or "::"):
        raise ValueError(
            "wanted HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:12345, [::1]:12345"
            f" or localhost:12345, found {text!r}{_slip(text)}"
        )
    return Address(match["ipv6"] or match["host"], int(match["port"]))


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _slip(text: str) -> str:
    """Name the two commonest slips, an IPv6 address without brackets and a missing port."""
    host = text.rpartition(":")[0]
    if _is_ipv6(text) or _is_ipv6(host):
        return f"; put an IPv6 address into brackets: [{host if _is_ipv6(host) else text}]:PORT"
    if ":" not in text:
        return "; add a port"
    return ""
