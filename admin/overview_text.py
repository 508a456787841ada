"""The figures of a store for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from dtm.core.escapes import escaped
from dtm.core.lifecycle import State
from dtm.storage.clients import MAX_NAMED
from dtm.storage.statistics import ClientFigures, Statistics, Throughput

from .clock import age, plain, with_age
from .overview import STATES, Overview, Running
from .tables import facts, table
from .wording import counted, shortened, some

_STATUSES = ("idle", "busy", "dead")
# A cell names a few of a client's tasks; JSON names them all.
_TASKS_NAMED = 5


def text(overview: Overview) -> str:
    """Write the figures for people."""
    figures = overview.figures
    parts = [facts(list(_facts(overview))), _kinds(overview), _throughput(figures.throughput)]
    if figures.clients:
        parts.append(_clients(figures))
    return "\n\n".join(parts)


def _facts(overview: Overview) -> Iterator[tuple[str, str]]:
    figures, server = overview.figures, overview.server
    yield "Store", escaped(str(overview.place))
    yield "Server", "stopped" if server is None else _running(server)
    yield "At", plain(figures.at)
    yield "Oldest waiting", _oldest(figures)
    yield "Next due", with_age(figures.next_due_at, figures.at)
    yield "Clients", _statuses(overview)
    yield "Retries", f"{figures.throughput[-1].retried:,} in the last hour, {figures.week.retried:,} in the last week"
    yield "Dead letters", f"{figures.in_state(State.DEAD):,}"
    if figures.log_lag:
        yield "Dead-letter log", f"{counted(figures.log_lag, 'line')} behind when its place was last noted"


def _running(server: Running) -> str:
    return f"running at {server.address}" + ("" if server.pid is None else f" (pid {server.pid})")


def _oldest(figures: Statistics) -> str:
    oldest = figures.oldest_waiting
    if oldest is None:
        return "-"
    return f"task {oldest.task_id} ({shortened(oldest.kind)}), submitted {age(oldest.created_at, figures.at)}"


def _statuses(overview: Overview) -> str:
    statuses = Counter(client.status for client in overview.figures.clients)
    listed = ", ".join(f"{statuses[status]:,} {status}" for status in _STATUSES)
    if overview.server is None and statuses.total() > statuses["dead"]:
        return f"{listed}, as the server last knew them"
    return listed


def _kinds(overview: Overview) -> str:
    rows = [_kind(shortened(kind), counts) for kind, counts in overview.by_kind.items()]
    headers = ["kind", *STATES, "total"]
    return table(headers, [*rows, _kind("TOTAL", overview.totals)], numbers=headers[1:])


def _kind(name: str, counts: Counter[str]) -> list[str]:
    return [name, *(f"{counts[state]:,}" for state in STATES), f"{counts.total():,}"]


def _throughput(windows: list[Throughput]) -> str:
    headers = ["last", "submitted", "completed", "retried", "timed out", "dead", "cancelled", "expired"]
    names = [header.replace(" ", "_") for header in headers[1:]]
    rows = [[f"{window.minutes} min", *(f"{getattr(window, name):,}" for name in names)] for window in windows]
    return table(headers, rows, numbers=headers)


def _clients(figures: Statistics) -> str:
    rows = [
        (
            client.client_id,
            shortened(client.name),
            escaped(client.address),
            client.status,
            shortened(", ".join(client.kinds)),
            age(client.last_heartbeat_at, figures.at),
            _load(client),
            some(client.tasks, most=_TASKS_NAMED),
        )
        for client in figures.clients
    ]
    headers = ["client", "name", "address", "status", "kinds", "heard", "holds", "tasks"]
    return table(headers, rows, numbers=["client"])


def _load(client: ClientFigures) -> str:
    count = len(client.tasks)
    if client.status != "dead":
        return f"{count} of {client.capacity}"
    return f"{count}+ lost" if count == MAX_NAMED else f"{count} lost"
