"""Where a store is: in a file on this machine, or behind a server somewhere.

Opens neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dtm.cli.options import Address
from dtm.security.credentials import Credentials


@dataclass(frozen=True, slots=True)
class Afar:
    """A server, and what shows it that an operator speaks."""

    address: Address
    credentials: Credentials

    def __str__(self) -> str:
        return str(self.address)


Place = Path | Afar
"""The path of the database file, or a server."""
