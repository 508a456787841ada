"""A server and a worker in a thread of this process, and the commands of dtm-client run against them."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import Event, create_task_group
from anyio.from_thread import start_blocking_portal

from dtm.cli.client import EXIT_CODES, client
from dtm.cli.program import run_cli
from dtm.client.handlers import Handler, registry
from dtm.client.prefetch import FixedPrefetch
from dtm.client.slots import threads
from dtm.client.verdicts import Reject
from dtm.client.worker import Worker, WorkerSettings
from dtm.net.stream import connect_tcp
from dtm.tasks.builtin import BUILTIN
from tests.server.live import Live, serving


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it printed, line by line."""
        return self.out.splitlines()


class Terminal:
    """Runs dtm-client as a shell would, without a process of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def run(self, *words: str, stdin: bytes = b"") -> Outcome:
        """Run a command line."""
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run_cli(client, list(words), exit_codes=EXIT_CODES)
        return Outcome(code, *self._capsys.readouterr())


class Site:
    """A live server, and the commands that talk to it."""

    def __init__(self, live: Live, terminal: Terminal) -> None:
        self.live = live
        self._terminal = terminal

    @property
    def address(self) -> str:
        """Where the server listens."""
        return f"127.0.0.1:{self.live.port}"

    def submit(self, *words: str, stdin: bytes = b"") -> Outcome:
        """Run `dtm-client submit`."""
        return self._terminal.run("submit", "--server", self.address, *words, stdin=stdin)

    def result(self, *words: str) -> Outcome:
        """Run `dtm-client result`."""
        return self._terminal.run("result", "--server", self.address, *words)

    def tasks(self) -> list[Any]:
        """List all tasks, the oldest first."""
        with self.live.reader() as reader:
            return reader.newest_tasks(state=None, kind=None, limit=1_000_000)[::-1]


@contextmanager
def site(folder: Path, terminal: Terminal, **changes: Any) -> Iterator[Site]:
    """Run a server, with these changes of its settings, and a worker as long as the context lasts."""
    options = {"use_uvloop": find_spec("uvloop") is not None}
    with (
        start_blocking_portal("asyncio", options) as portal,
        portal.wrap_async_context_manager(_staffed(folder, changes)) as live,
    ):
        yield Site(live, terminal)


def _reject(_: object) -> None:
    raise Reject("never")


@asynccontextmanager
async def _staffed(folder: Path, changes: dict[str, Any]) -> AsyncIterator[Live]:
    async with serving(folder, **changes) as live, create_task_group() as group:
        handlers = registry(*BUILTIN.values(), Handler("Echo", lambda payload: payload), Handler("Reject", _reject))
        settings = WorkerSettings(
            host="127.0.0.1", port=live.port, name="worker", concurrency=4, shutdown_timeout_s=5.0
        )
        group.start_soon(
            Worker(
                settings, handlers, FixedPrefetch(10), connect=connect_tcp, slots=threads, chance=random.Random(1)
            ).run,
            Event(),
            Event(),
        )
        yield live
        group.cancel_scope.cancel()
        await anyio.lowlevel.checkpoint()
