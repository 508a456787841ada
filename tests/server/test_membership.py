"""A worker's part of a connection, where the wire does not show what happens: it leaves before it is let in."""

from __future__ import annotations

from pathlib import Path

from dtm.protocol.messages import Register
from dtm.server.membership import Membership
from dtm.storage.batch import Departure, Why
from tests.server.stores import Silence, hub_on, settle


async def test_a_worker_that_left_before_it_was_let_in_may_come_back(tmp_path: Path) -> None:
    """It is not given tasks; what it wished to resume waits for it as long as for anybody whose connection broke."""
    async with hub_on(tmp_path) as hub:
        membership = Membership(hub, outlet=Silence(), address="nowhere")
        membership.register(Register("w", ["A"], 1))
        membership.leave(said_goodbye=False)
        await settle(hub)

        assert hub.roster.seats() == []
        now_s, grace_s = hub.clock.monotonic_s(), hub.settings.reconnect_grace_s
        assert hub.roster.departures(now_s) == []
        assert hub.roster.departures(now_s + grace_s) == [Departure(1, Why.CONNECTION_LOST)]
