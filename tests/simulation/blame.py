"""Whether a client that the server counted as dead had given it reason to.

The server's log tells whom it takes for dead; the journal and the network tell what that client did.
"""

from __future__ import annotations

from collections.abc import Callable

from structlog.typing import EventDict

from tests.simulation.journal import Joined, Journal
from tests.simulation.servers import Servers

SLACK_S = 1e-6


class Blame:
    """Listens to the server's log."""

    def __init__(self, journal: Journal, servers: Servers, now_s: Callable[[], float]) -> None:
        self._journal = journal
        self._servers = servers
        self._now_s = now_s

    def hear(self, event: EventDict) -> None:
        """Look at one line of the log."""
        if event["event"] == "connection.failed":
            self._journal.blame("a connection ended with an exception:", event.get("exception") or event)
        if event["event"] == "client.died" and event["tasks"]:
            member = self._journal.member(event["client"], event["name"])
            if member is not None and not member.process.was_killed:
                self._judge(member, event["why"], event["tasks"])

    def _judge(self, member: Joined, why: str, tasks: int) -> None:
        who = f"client {member.client_id} ({member.process.name}, not killed) with {tasks} tasks as {why!r}"
        if not self._has_cause(member, why):
            self._journal.blame(f"charged {who}, although nothing has kept it from being heard")
        newest = self._journal.newest_of(member.process)
        if newest is not None and newest.client_id > member.client_id:
            self._journal.blame(f"charged {who}, although it was back as client {newest.client_id}")
        away_s, allowed_s = self._absence(member, why)
        if away_s < allowed_s - SLACK_S:
            self._journal.blame(f"charged {who} after {away_s:.3f} s instead of {allowed_s:g} s")

    def _has_cause(self, member: Joined, why: str) -> bool:
        """Whether something has happened to the client or to its connection; what happens to the server is no cause."""
        if why == "silent":
            # What was held up is delivered late: one more timeout, in which its last ping may have been on its way.
            return member.had_trouble(self._now_s() - 2 * self._servers.settings.heartbeat_timeout_s)
        said_goodbye = member.stream.connection in self._journal.farewells
        return why != "connection lost" or not said_goodbye or member.had_trouble(member.at_s)

    def _absence(self, member: Joined, why: str) -> tuple[float, float]:
        settings, now_s, stream = self._servers.settings, self._now_s(), member.stream
        if why == "silent":
            return now_s - max(member.at_s, stream.last_heard_s or 0.0), settings.heartbeat_timeout_s
        if why == "connection lost":
            return now_s - (now_s if stream.closed_s is None else stream.closed_s), settings.reconnect_grace_s
        return now_s - self._servers.started_s, settings.heartbeat_timeout_s
