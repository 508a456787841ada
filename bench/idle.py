"""What dtm takes while it has nothing to do: memory, and CPU for heartbeats and looks at the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from bench.clients import IDLE_KIND
from bench.crowd import running_crowd
from bench.figures import Footprint
from bench.process import Process
from bench.server import running_server
from bench.workers import running_workers

# Until what the start left to do is done.
SETTLE_S = 3.0
# At ten milliseconds a tick of the system's books: a thousandth of a core.
WATCH_S = 10.0
CROWD = 1_000


def measure(folder: Path, _tasks: int) -> Iterator[Footprint]:
    """Watch a server with one client, and that client; then a server with a thousand."""
    with running_server(folder) as server:
        with running_workers(server.address, folder, count=1) as (client,):
            time.sleep(SETTLE_S)
            yield from _watch({"server, 1 client": server.process, "client": client})
        before = server.process.require_usage()
        with running_crowd(server.address, folder, IDLE_KIND, count=CROWD, capacity=1):
            time.sleep(SETTLE_S)
            yield from _watch({f"server, {CROWD:,} clients": server.process})
            after = server.process.require_usage()
    yield Footprint(name="a connected client", memory_bytes=(after.memory_bytes - before.memory_bytes) / CROWD)


def _watch(processes: dict[str, Process]) -> Iterator[Footprint]:
    before = [process.require_usage() for process in processes.values()]
    began_s = time.monotonic()
    time.sleep(WATCH_S)
    seconds = time.monotonic() - began_s
    for (name, process), earlier in zip(processes.items(), before, strict=True):
        now = process.require_usage()
        share = (now.cpu_s - earlier.cpu_s) / seconds
        yield Footprint(name=name, memory_bytes=now.memory_bytes, cpu_share=share)
