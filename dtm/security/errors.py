"""What can be wrong with what an operator gave to protect a connection."""

from __future__ import annotations

from dtm.core.errors import DtmError


class Misconfigured(DtmError):
    """A file or an option that protects connections cannot be used; nothing was opened."""


class NotAdmitted(DtmError):
    """The server and this client do not accept each other; trying again will not change that."""
