"""An operator's commands, in the order in which they were given."""

from __future__ import annotations

from collections.abc import Sequence

from dtm.storage import cancel, deadletters
from dtm.storage.batch import Cancel, Command
from dtm.storage.transaction import Transaction


def carry_out(tx: Transaction, commands: Sequence[Command]) -> None:
    """Carry out each command, on at most as many rows as its limit says."""
    for command in commands:
        if isinstance(command, Cancel):
            cancel.carry_out(tx, command)
        else:
            deadletters.carry_out(tx, command)
