"""What every connection of a server shares."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from dtm.server.clock import Clock
from dtm.server.committer import Committer
from dtm.server.lookup import Lookup
from dtm.server.roster import Roster
from dtm.server.settings import Settings
from dtm.server.watchers import Watchers


class Hub(Struct):
    """The server's parts, as a connection sees them."""

    name: str
    secret: str
    settings: Settings
    clock: Clock
    roster: Roster
    watchers: Watchers
    committer: Committer
    lookup: Lookup
    background: Callable[..., None]
    is_draining: bool = False
