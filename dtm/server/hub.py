"""What every connection of a server shares."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from dtm.server.admission import Access
from dtm.server.clock import Clock
from dtm.server.committer import Committer
from dtm.server.disk import Disk
from dtm.server.gate import Gate
from dtm.server.lookup import Lookup
from dtm.server.roster import Roster
from dtm.server.settings import Settings
from dtm.server.watchers import Watchers


class Hub(Struct):
    """The server's parts, as a connection sees them."""

    name: str
    access: Access
    settings: Settings
    gate: Gate
    disk: Disk
    clock: Clock
    roster: Roster
    watchers: Watchers
    committer: Committer
    lookup: Lookup
    inquiries: Lookup
    background: Callable[..., None]
    is_draining: bool = False
