"""A real dtm-server on a database of its own, on a port that the system picks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from bench.process import Process, running


class Server(Struct, frozen=True):
    """A server that listens."""

    process: Process
    address: str
    db: Path


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Run a server with default settings and an empty database in `folder` as long as the context lasts."""
    db = folder / "tasks.db"
    files = ("--db", str(db), "--dead-letter-log", str(folder / "dead-letter-queue.log"))
    listen = ("--host", "127.0.0.1", "--port", "0")
    with running(("dtm.cli.server", *files, *listen, "--log-format", "json"), folder / "server.log") as process:
        yield Server(process, process.logged("listening")["address"], db)
