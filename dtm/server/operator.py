"""A connection's part as an operator: commands that change the store, and questions about it.

Knows no bytes and no SQL, and decides nothing about tasks.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.server.commands import Compact, command
from dtm.server.hub import Hub
from dtm.server.inquiries import answer
from dtm.server.roster import Outlet
from dtm.server.translate import left_out, refusal
from dtm.storage.batch import Cancel, Clear, Reprocess
from dtm.storage.compaction import Compacted
from dtm.storage.errors import StoreFailed
from dtm.storage.receipt import Refused, Resolved


class Operator:
    """What one connection commands and asks, and the answers."""

    def __init__(self, hub: Hub, *, outlet: Outlet) -> None:
        self._hub = hub
        self._outlet = outlet

    async def admin(self, message: messages.Admin) -> None:
        """Have a command carried out, or a question answered; only the latter takes time.

        Raises:
            Unacceptable: there is no such command, not with such arguments, or its answer is too large.
        """
        wanted = command(message)
        if isinstance(wanted, Reprocess | Clear | Cancel):
            self._hub.committer.command(wanted, lambda resolved: self._resolved(message, resolved))
            return
        if isinstance(wanted, Compact):
            self._hub.committer.compact(
                self._hub.settings.limits.min_free_disk, lambda done: self._compacted(message, done)
            )
            return
        try:
            result = await self._hub.inquiries.ask(answer(wanted, self._hub.clock.now()))
        except StoreFailed as error:
            self._outlet.send([refusal(ErrorCode.REFUSED, str(error), message)])
        else:
            self._outlet.send([messages.AdminResponse(message.ref, result)])

    def _compacted(self, message: messages.Admin, done: Compacted | Refused) -> None:
        if isinstance(done, Refused):
            self._outlet.send([left_out(done, message)])
        else:
            self._outlet.send([messages.AdminResponse(message.ref, Raw(msgspec.json.encode(done)))])

    def _resolved(self, message: messages.Admin, resolved: Resolved | Refused) -> None:
        if isinstance(resolved, Refused):
            self._outlet.send([left_out(resolved, message)])
        else:
            result = Raw(msgspec.json.encode({"done": resolved.done, "left": resolved.left}))
            self._outlet.send([messages.AdminResponse(message.ref, result)])
