"""Why a command could not be carried out, beyond what the store itself says."""

from __future__ import annotations

from dtm.core.errors import DtmError


class NotFound(DtmError):
    """What was asked for does not exist."""


class ServerUnreachable(DtmError):
    """A server holds the store, and does not answer as one."""


class CommandRefused(DtmError):
    """The command arrived, and was not carried out."""


class PutOff(CommandRefused):
    """The command was refused for the moment."""
