"""A worker that runs an app's tasks, in this process."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio import Event, create_task_group

from dtm.client.prefetch import FixedPrefetch
from dtm.client.slots import threads
from dtm.client.worker import Worker, WorkerSettings
from dtm.net.stream import connect_tcp
from dtm.tasks.app import App
from dtm.tasks.server import Server
from tests.server.live import Live, serving


@asynccontextmanager
async def working(live: Live, app: App, *, concurrency: int = 4) -> AsyncIterator[None]:
    """Run a worker as long as the context lasts."""
    settings = WorkerSettings(
        host="127.0.0.1", port=live.port, name="worker", concurrency=concurrency, shutdown_timeout_s=0.0
    )
    stop = Event()
    async with create_task_group() as group:
        worker = Worker(
            settings, app.handlers, FixedPrefetch(10), connect=connect_tcp, slots=threads, chance=random.Random(1)
        )
        group.start_soon(worker.run, stop, Event())
        yield
        stop.set()


@asynccontextmanager
async def staffed(folder: Path, app: App, **changes: Any) -> AsyncIterator[Live]:
    """Run a server and a worker, and open the app, as long as the context lasts."""
    async with serving(folder, **changes) as live, working(live, app):
        point(app, live.port)
        async with app:
            yield live
            await anyio.lowlevel.checkpoint()


def point(app: App, port: int) -> None:
    """Let the app speak to a server of this machine."""
    app.server = Server(address=f"127.0.0.1:{port}")
