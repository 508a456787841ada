"""The only place where time passes: tasks fall due, clients are declared dead, figures are reported."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import structlog

from dtm.core.lifecycle import State
from dtm.server.hub import Hub
from dtm.storage.batch import Departure, Why

log = structlog.get_logger()


async def watch_due(hub: Hub, next_due_at: Callable[[], int | None]) -> None:
    """Ask for a commit when a scheduled task falls due or a client's time to come back is over."""
    while True:
        await anyio.sleep(hub.settings.dispatch_check_s)
        for departure in hub.roster.departures(hub.clock.monotonic_s()):
            hub.committer.depart(departure)
        due_at = next_due_at()
        if due_at is not None and due_at <= hub.clock.now():
            hub.committer.wake()


async def watch_heartbeats(hub: Hub) -> None:
    """Declare dead whoever has been silent for too long, and write down when the others were heard."""
    settings, clock = hub.settings, hub.clock
    checked_s = clock.monotonic_s()
    while True:
        await anyio.sleep(settings.heartbeat_check_s)
        now_s = clock.monotonic_s()
        # The sleep was longer than asked for because this process did not run; nobody was silent for that.
        hub.roster.forgive(max(0.0, now_s - checked_s - settings.heartbeat_check_s))
        for member in hub.roster.silent(now_s, settings.heartbeat_timeout_s):
            _declare_dead(hub, member.client_id)
        heartbeats = {m.client_id: clock.at(m.heard_s) for m in hub.roster.members if m.heard_s >= checked_s}
        if heartbeats:
            hub.committer.note_heartbeats(heartbeats)
        checked_s = now_s


async def report_statistics(hub: Hub) -> None:
    """Log the store's figures now and then."""
    while True:
        await anyio.sleep(hub.settings.stats_interval_s)
        figures = await hub.lookup.statistics(hub.clock.now())
        last = figures.throughput[-1]
        log.info(
            "statistics",
            **{str(state): figures.in_state(state) for state in State if state is not State.CLEARED},
            clients=sum(client.status != "dead" for client in figures.clients),
            busy=sum(client.status == "busy" for client in figures.clients),
            completed_last_hour=last.completed,
            retried_last_hour=last.retried,
            log_lag=figures.log_lag,
        )


def _declare_dead(hub: Hub, client_id: int) -> None:
    member = hub.roster.forget(client_id)
    if member is not None:
        hub.committer.depart(Departure(client_id, Why.SILENT))
        member.outlet.cut(f"client {member.name} was silent for {hub.settings.heartbeat_timeout_s:g} s")
