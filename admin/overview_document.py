"""The figures of a store for programs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from msgspec import structs

from dtm.core.lifecycle import State
from dtm.storage.statistics import ClientFigures, Statistics

from .clock import exact, seconds
from .documents import Document
from .overview import STATES, Overview, Running


def document(overview: Overview) -> Document:
    """Give the figures for programs."""
    figures = overview.figures
    return {
        "at": exact(figures.at),
        "db": str(overview.place) if isinstance(overview.place, Path) else None,
        "server": _server(overview.server),
        "kinds": [{"kind": kind, **_in_states(counts)} for kind, counts in overview.by_kind.items()],
        "total": _in_states(overview.totals),
        "oldest_waiting": _oldest(figures),
        "next_due_at": exact(figures.next_due_at),
        "clients": [_client(client) for client in figures.clients],
        "throughput": [structs.asdict(window) for window in figures.throughput],
        "retries": {"last_hour": figures.throughput[-1].retried, "last_week": figures.week.retried},
        "dead_letters": figures.in_state(State.DEAD),
        "log_lag": figures.log_lag,
    }


def _server(server: Running | None) -> Document | None:
    if server is None:
        return None
    return {"host": server.address.host, "port": server.address.port, "pid": server.pid}


def _in_states(counts: Counter[str]) -> dict[str, int]:
    return {**{state.value: counts[state] for state in STATES}, "total": counts.total()}


def _oldest(figures: Statistics) -> Document | None:
    oldest = figures.oldest_waiting
    if oldest is None:
        return None
    return {
        "task_id": oldest.task_id,
        "kind": oldest.kind,
        "created_at": exact(oldest.created_at),
        "age_s": seconds(figures.at - oldest.created_at),
    }


def _client(client: ClientFigures) -> Document:
    return {
        **structs.asdict(client),
        "connected_at": exact(client.connected_at),
        "last_heartbeat_at": exact(client.last_heartbeat_at),
        "left_at": exact(client.left_at),
    }
