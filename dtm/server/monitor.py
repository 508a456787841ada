"""The only place where time passes: tasks fall due, clients die, the disk is looked at, figures are reported."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import structlog

from dtm.core.lifecycle import State
from dtm.server.hub import Hub
from dtm.storage.batch import Departure, Why

# A sleep that takes so much longer than asked for is no jitter: this process did not run.
PAUSE_S = 0.5

log = structlog.get_logger()


async def watch(hub: Hub, next_due_at: Callable[[], int | None]) -> None:
    """Look at the clock again and again, and see to what it says.

    Raises:
        StoreGone: somebody deleted or replaced the files of the store.
    """
    settings, clock = hub.settings, hub.clock
    tick_s = min(settings.dispatch_check_s, settings.heartbeat_check_s)
    looked_s = checked_s = clock.monotonic_s()
    while True:
        await anyio.sleep(tick_s)
        now_s = clock.monotonic_s()
        late_s = now_s - looked_s - tick_s
        if late_s > PAUSE_S:
            # Nobody could be heard in that time; it must not count as silence or absence.
            log.warning("server.paused", seconds=round(late_s, 1))
            hub.roster.forgive(late_s, now_s)
            # Nor may it make a result late. Who is paused often, and shortly, still ends what takes too long.
            hub.committer.spare_overdue(now_s + min(late_s, settings.heartbeat_timeout_s))
        elif hub.committer.is_blocked or hub.committer.is_compacting:
            # Whoever wants to come back is refused until the store is free.
            hub.roster.forgive(now_s - looked_s, now_s)
            hub.committer.spare_overdue(now_s + settings.reconnect_grace_s)
        looked_s = now_s
        hub.disk.look()
        _see_who_is_gone(hub, now_s)
        due_at = next_due_at()
        if due_at is not None and due_at <= clock.now():
            hub.committer.wake()
        # At the next tick it would be too late.
        if now_s + tick_s - checked_s > settings.heartbeat_check_s:
            hub.disk.require_same_files()
            _check_heartbeats(hub, now_s, since_s=checked_s)
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


def _see_who_is_gone(hub: Hub, now_s: float) -> None:
    for departure in hub.roster.departures(now_s):
        hub.committer.depart(departure)


def _check_heartbeats(hub: Hub, now_s: float, *, since_s: float) -> None:
    """Declare dead whoever has been silent for too long, and write down when the others were heard."""
    for member in hub.roster.silent(now_s, hub.settings.heartbeat_timeout_s):
        hub.roster.forget(member.client_id)
        hub.committer.depart(Departure(member.client_id, Why.SILENT))
        member.outlet.cut(f"client {member.name} was silent for {hub.settings.heartbeat_timeout_s:g} s")
    heartbeats = {m.client_id: hub.clock.at(m.heard_s) for m in hub.roster.members if m.heard_s >= since_s}
    if heartbeats:
        hub.committer.note_heartbeats(heartbeats)
